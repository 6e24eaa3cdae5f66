//! What commands about enclaves say without any, and what `run` refuses before anything starts.

use crate::bzimage::smallest_bzimage;
use crate::eif::golden;
use crate::support::{User, enclave_alone};

#[test]
fn without_enclaves_lists_are_empty() {
    let user = User::new();
    for words in [&["describe", "-o", "json"][..], &["terminate", "--all", "-o", "json"]] {
        assert_eq!(user.run(words).succeeded().json(), serde_json::json!([]), "{words:?}");
    }
    assert!(user.run(&["describe"]).succeeded().stdout.contains("enclave run"));
}

#[test]
fn an_unknown_name_is_an_error_everywhere() {
    let user = User::new();
    for words in [
        &["describe", "nobody"][..],
        &["describe", "nobody", "-o", "json"],
        &["terminate", "nobody"],
        &["start", "nobody"],
        &["console", "nobody"],
        &["logs", "nobody"],
        &["connect", "nobody", "5005"],
    ] {
        let _ = user.run(words).failed(&["\"nobody\"", "enclave describe"]);
    }
    // 1 could be the application's own status.
    let ran = user.run(&["wait", "nobody"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (255, ""));
    let _ = ran.says(&["\"nobody\""]);
}

fn run(user: &User, more: &[&str]) -> crate::support::Ran {
    let image = user.file("golden.eif", golden());
    user.run(&[&["run", "--eif", &image][..], more].concat())
}

#[test]
fn what_cannot_be_given_is_refused_with_what_can() {
    let user = User::new();
    let _ = run(&user, &["--cpus", "1"]).failed(&["no memory size", "--memory"]);
    let _ = run(&user, &["--memory", "128"]).failed(&["no number of CPUs", "default_cpus"]);
    let _ = run(&user, &["--cpus", "1", "--memory", "1073741824"]).failed(&["1073741824 MiB", "available"]);
    let _ = run(&user, &["--cpus", "1", "--memory", "18446744073709551615"]).failed(&["MiB", "available"]);
    let _ = run(&user, &["--cpus", "64", "--memory", "128"]).failed(&["64 CPUs", "this host offers"]);
    let _ = run(&user, &["--cpu-ids", "0,60000", "--memory", "128"]).failed(&["CPU 60000", "cpu_pool"]);
    let _ = run(&user, &["--cpu-ids", "0,1,0", "--memory", "128"]).failed(&["CPU 0", "more than once"]);
    let _ = run(&user, &["--cpus", "1", "--memory", "128", "--name", "a\nb"]).failed(&["name"]);
    let _ = run(&user, &["--cpus", "1", "--memory", "128", "--name", "i-1-enc2"]).failed(&["EnclaveID"]);
    let none = user.path("none.pem").to_str().unwrap().to_owned();
    let _ =
        run(&user, &["--cpus", "1", "--memory", "128", "--require-signature", &none]).failed(&["none.pem"]);
    assert!(!user.path("state").exists(), "nothing was made for an enclave that cannot be");
}

/// An image whose kernel can be booted.
fn bootable() -> Vec<u8> {
    let kernel = smallest_bzimage();
    let sections: [(u16, &[u8]); 3] = [(1, &kernel), (2, b"quiet"), (3, b"RAMDISK")];
    crate::eif::image(0, &sections, 0)
}

#[test]
fn the_memory_that_an_image_needs_is_said() {
    let user = User::new();
    let image = user.file("bootable.eif", bootable());
    let run = |more: &[&str]| user.run(&[&["run", "--eif", &image, "--cpus", "1"][..], more].concat());
    let _ = run(&[]).failed(&["no memory size", "this image needs", "MiB"]);
    let _ =
        run(&["--memory", "1"]).failed(&["1 MiB is too little: the image needs", "give at least --memory"]);
}

#[test]
fn an_image_that_is_none_is_refused() {
    let user = User::new();
    let folder = user.path("").to_str().unwrap().to_owned();
    for (path, word) in [("/nonexistent/a.eif", "/nonexistent/a.eif"), (&folder, "not an ordinary file")] {
        let _ = user.run(&["run", "--eif", path, "--cpus", "1", "--memory", "64"]).failed(&[word]);
    }
}

#[test]
fn the_configuration_gives_defaults_and_a_slip_is_not_ignored() {
    let user = User::new();
    let _ = user.file("enclave.toml", "default_cpus = 64\ndefault_memory_mib = 128\n");
    let _ = run(&user, &[]).failed(&["64 CPUs"]);
    let _ = user.file("enclave.toml", "cpu_pool = \"60000\"\n");
    let _ = run(&user, &["--cpus", "1", "--memory", "128"]).failed(&["this host offers 0"]);
    let _ = user.file("enclave.toml", "cpu_pool = \"all\"\n");
    let _ = run(&user, &["--cpus", "1", "--memory", "128"]).failed(&["cpu_pool"]);
    let _ = user.file("enclave.toml", "huge_page_size = 2\n");
    let _ = run(&user, &["--cpus", "1", "--memory", "128"]).failed(&["enclave.toml", "huge_page_size_mib"]);
}

#[test]
fn a_missing_hypervisor_names_make_build() {
    let user = User::new();
    let (program, _folder) = enclave_alone();
    let image = user.file("golden.eif", golden());
    let mut command = std::process::Command::new(program);
    command.args(["run", "--eif", &image, "--cpus", "1", "--memory", "128"]);
    for (variable, folder) in
        [("ENCLAVE_RUN_DIR", "run"), ("ENCLAVE_STATE_DIR", "state"), ("ENCLAVE_CONFIG", "enclave.toml")]
    {
        command.env(variable, user.path(folder));
    }
    let ran = crate::support::Ran::of(&mut command);
    let _ = ran.failed(&["enclave-hypervisor", "make build"]);
}
