//! What is told while an image is built.

use image::builder::Step;

use crate::output::{self, printable};
use crate::progress::Progress;

/// Shows the steps of one build.
#[derive(Debug, Default)]
pub(super) struct Display {
    /// The layer that is shown, and its bar.
    layer: Option<(usize, Progress)>,
}

impl Display {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What [`image::builder::build`] calls for every step.
    pub(super) fn steps(mut self) -> impl FnMut(Step<'_>) {
        move |step| self.step(step)
    }

    fn step(&mut self, step: Step<'_>) {
        let text = match step {
            Step::Layer { name, number, count, done, total } => {
                return self.layer(name, (number, count), (done, total));
            }
            Step::Listing => "Listing the root folder.",
            Step::Kernel => "Writing the kernel.",
            Step::Boot => "Writing the boot ramdisk.",
            Step::Application => "Writing the application's ramdisk.",
        };
        self.layer = None;
        output::tell(text);
    }

    fn layer(&mut self, name: &str, (number, count): (usize, usize), (done, total): (u64, u64)) {
        if self.layer.as_ref().is_none_or(|(shown, _)| *shown != number) {
            self.layer = None;
            if !output::stderr_is_terminal() {
                output::tell(format_args!("Unpacking {} ({number} of {count}).", printable(name)));
            }
            self.layer = Some((number, Progress::new(format!("Layer {number} of {count}"))));
        }
        if let Some((_, progress)) = &mut self.layer {
            progress.bytes(done, total);
        }
    }
}
