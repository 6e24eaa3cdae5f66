//! Building an image and looking at it, beside `sha384sum` and `cp` of the same bytes and AWS's image-format crate.
//!
//! Needs no guest: measured where it is started, not in the lab.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::image_file::ImageFile;
use tests::product::User;

use crate::loading::noise;
use crate::statistics::{ROUNDS, median, row};

/// Bytes of the root folder: one large file, and many as small as those of a language's library.
const LARGE_FILE: usize = 250 << 20;
const SMALL_FILES: usize = 2000;
const SMALL_FILE: usize = 25 << 10;

/// The program of `tests/oracles/images` that does the same with AWS's crate.
const PEER: &str = "AWS_IMAGE";

struct Inputs {
    folder: PathBuf,
    rootfs: PathBuf,
    tar: PathBuf,
}

impl Inputs {
    fn new(user: &User) -> Self {
        let folder = user.path("images");
        let rootfs = folder.join("rootfs");
        fs::create_dir_all(rootfs.join("lib")).unwrap();
        let bytes = noise(LARGE_FILE);
        File::create(rootfs.join("model")).unwrap().write_all(&bytes).unwrap();
        for (number, content) in bytes.chunks(SMALL_FILE).take(SMALL_FILES).enumerate() {
            fs::write(rootfs.join(format!("lib/{number}")), content).unwrap();
        }
        let tar = folder.join("rootfs.tar");
        time(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&tar).arg("."));
        Self { folder, rootfs, tar }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn time(command: &mut Command) -> Duration {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "{command:?}");
    began.elapsed()
}

fn build(user: &User, rootfs: &Path, output: &Path) -> Command {
    let (rootfs, output) = (rootfs.to_str().unwrap(), output.to_str().unwrap());
    user.command(&["build", "--rootfs", rootfs, "--output", output, "--", "/bin/app"])
}

/// Everything that is timed, in the order of a round.
const WHAT: [&str; 8] = [
    "`sha384sum` of the image",
    "`cp` of the image, written to the disk",
    "`enclave build` from the folder",
    "`enclave build` from a tar archive of it",
    "AWS's crate, building from finished ramdisks",
    "`enclave eif measure`",
    "`enclave eif describe`",
    "AWS's crate, describing",
];

pub(crate) fn measure() {
    let user = User::new();
    let inputs = Inputs::new(&user);
    let image = inputs.file("app.eif");
    let peer = std::env::var_os(PEER).expect("tools/bench says where the peer is");
    let _ = time(&mut build(&user, &inputs.rootfs, &image));
    let parts = take_apart(&inputs, &image);
    let length = fs::metadata(&image).unwrap().len();
    let mut series: [Vec<Duration>; WHAT.len()] = Default::default();
    for round in 0..=ROUNDS {
        let (again, copy) = (inputs.file("again.eif"), inputs.file("copy.eif"));
        let mut cp = Command::new("sh");
        cp.args(["-c", "cp \"$0\" \"$1\" && sync \"$1\""]).arg(&image).arg(&copy);
        let mut hash = Command::new("sha384sum");
        hash.arg(&image);
        let mut theirs = Command::new(&peer);
        theirs.arg("build").arg(inputs.file("theirs.eif")).args(&parts);
        let mut their_description = Command::new(&peer);
        their_description.arg("describe").arg(&image);
        let text = image.to_str().unwrap();
        let commands = [
            hash,
            cp,
            build(&user, &inputs.rootfs, &again),
            build(&user, &inputs.tar, &again),
            theirs,
            user.command(&["eif", "measure", text]),
            user.command(&["eif", "describe", text]),
            their_description,
        ];
        for (times, mut command) in series.iter_mut().zip(commands) {
            let spent = time(&mut command);
            if round > 0 {
                times.push(spent);
            }
        }
    }
    println!("| image of {:.1} MB | median | range |\n|---|---|---|", length as f64 / 1e6);
    for (name, times) in WHAT.iter().zip(&series) {
        row(name, times);
    }
    let seconds = series.map(|times| median(times).as_secs_f64());
    let [hash, copy, folder, tar, _, measured, described, theirs] = seconds;
    let floor = hash + copy;
    println!(
        "\nBuilding takes {:.2} (folder) and {:.2} (archive) times as long as hashing and writing once (goal: at most 1.5)",
        folder / floor,
        tar / floor
    );
    println!(
        "`measure` takes {:.2} and `describe` {:.2} of the time of AWS's crate (goal: at most 0.5)",
        measured / theirs,
        described / theirs
    );
}

/// Kernel, command line and ramdisks of an image, as the peer takes them.
fn take_apart(inputs: &Inputs, image: &Path) -> Vec<String> {
    let image = ImageFile::read(image);
    let kernel = inputs.file("kernel");
    fs::write(&kernel, image.kernel()).unwrap();
    let ramdisks = inputs.file("ramdisks");
    fs::write(&ramdisks, image.ramdisks()).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    vec![path(&kernel), image.command_line().to_owned(), path(&ramdisks)]
}
