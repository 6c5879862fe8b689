//! What the default build pulls in.

use std::collections::BTreeSet;
use std::error::Error;

use super::cargo_command;

/// The most packages that the default build may have, itself included.
const MAX_PACKAGES: usize = 110;

/// Packages that compile C or talk HTTP: no host gets them unasked.
const UNWANTED: &[&str] =
    &["cc", "cmake", "bindgen", "reqwest", "hyper", "ureq", "curl-sys", "openssl-sys", "ring", "aws-lc-sys"];

pub(super) fn check() -> Result<(), Box<dyn Error>> {
    let packages = packages(&["-e", "normal"])?;
    println!("{} packages in the default build, at most {MAX_PACKAGES}", packages.len());
    if packages.len() > MAX_PACKAGES {
        return Err(format!("too many packages:\n{}", packages.into_iter().collect::<Vec<_>>().join("\n")).into());
    }
    // Build scripts count too: one of them could want a C compiler.
    let built = self::packages(&["-e", "normal,build"])?;
    let unwanted: Vec<&String> =
        built.iter().filter(|package| UNWANTED.iter().any(|name| package.split(' ').next() == Some(name))).collect();
    if unwanted.is_empty() {
        println!("no C compiler, no HTTP client");
        return Ok(());
    }
    Err(format!("the default build has {unwanted:?}").into())
}

/// Name and version of every package of the facade's default build.
fn packages(edges: &[&str]) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let arguments = [&["tree", "--package", "adjutant", "--prefix", "none"], edges].concat();
    let output = cargo_command(&arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let package = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(lines.lines().filter(|line| !line.is_empty()).map(package).collect())
}
