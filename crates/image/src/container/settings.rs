//! From what an image says and what the user says to what runs, as `docker run` has it.

use super::{ContainerError, ContainerImage};
use crate::ramdisk::Application;

/// The search path of an image that sets none, as Docker has it.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the user says about the application. It goes before what a container image says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The whole command: replaces ENTRYPOINT and CMD. Empty for none.
    pub command: Vec<String>,
    /// `NAME=VALUE` each: replaces the variable, or adds it.
    pub environment: Vec<String>,
    /// Where it starts.
    pub working_directory: Option<String>,
    /// As whom it runs.
    pub user: Option<String>,
}

impl From<Overrides> for Application {
    /// For a root file system, which says nothing itself.
    fn from(overrides: Overrides) -> Self {
        Self {
            arguments: overrides.command,
            environment: overrides.environment,
            working_directory: overrides.working_directory,
            user: overrides.user,
        }
    }
}

impl ContainerImage {
    /// What runs in an enclave of this image.
    ///
    /// # Errors
    /// If neither the image nor the user gives a command.
    pub fn application(&self, overrides: &Overrides) -> Result<Application, ContainerError> {
        let config = self.configuration.config().as_ref();
        let list =
            |found: Option<&Option<Vec<String>>>| found.and_then(Option::as_ref).cloned().unwrap_or_default();
        let mut arguments = overrides.command.clone();
        if arguments.is_empty() {
            arguments = list(config.map(|config| config.entrypoint()));
            arguments.extend(list(config.map(|config| config.cmd())));
        }
        if arguments.is_empty() {
            return Err(ContainerError::NoCommand);
        }
        let text = |found: Option<&Option<String>>| {
            found.and_then(Option::as_ref).filter(|text| !text.is_empty()).cloned()
        };
        let working_directory = text(config.map(|config| config.working_dir())).map(absolute);
        let user = text(config.map(|config| config.user()));
        Ok(Application {
            arguments,
            environment: environment(list(config.map(|config| config.env())), &overrides.environment),
            working_directory: overrides.working_directory.clone().or(working_directory),
            user: overrides.user.clone().or(user),
        })
    }
}

/// Docker takes a relative WORKDIR as one below the root.
fn absolute(folder: String) -> String {
    if folder.starts_with('/') { folder } else { format!("/{folder}") }
}

/// The image's variables in their order, each with the value that was set last, then the new ones.
fn environment(image: Vec<String>, overrides: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = Vec::new();
    for variable in image.iter().chain(overrides) {
        let name = name(variable);
        match merged.iter_mut().find(|known| self::name(known) == name) {
            Some(known) => known.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    if !merged.iter().any(|variable| name(variable) == "PATH") {
        merged.insert(0, DEFAULT_PATH.to_owned());
    }
    merged
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_their_order_and_the_last_value_counts() {
        let image = ["A=1", "PATH=/image", "B=2"].map(String::from).to_vec();
        let overrides = ["B=3", "C=4", "C=5", "PATHOLOGY=x"].map(String::from);
        assert_eq!(environment(image, &overrides), ["A=1", "PATH=/image", "B=3", "C=5", "PATHOLOGY=x"]);
    }

    #[test]
    fn an_image_without_variables_gets_dockers_path() {
        assert_eq!(environment(Vec::new(), &[]), [DEFAULT_PATH]);
        assert_eq!(environment(Vec::new(), &["PATH=/x".to_owned()]), ["PATH=/x"]);
    }
}
