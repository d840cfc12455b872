//! The files that the rules read.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of the library, below the repository.
pub const SRC: &str = "functions/shared/src";

/// A text file of the repository.
pub struct Source {
    /// The path below the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Returns the path below `functions/shared/src`.
    pub fn inner(&self) -> &str {
        self.path.strip_prefix(SRC).map_or(&self.path, |path| path.trim_start_matches('/'))
    }

    /// Returns the names of the module below the crate: none for `lib.rs`.
    pub fn module(&self) -> Vec<String> {
        let path = self.inner().trim_end_matches(".rs").trim_end_matches(".sql");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lists a folder's files, or the file itself, without what Python writes.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.retain(|path| !path.ends_with("__pycache__"));
    entries.iter().flat_map(|path| files(path)).collect()
}

/// Reads all text files of a folder of the repository.
pub fn texts(folder: &str) -> Vec<Source> {
    let root = root();
    let files = files(&root.join(folder)).into_iter();
    files
        .filter_map(|file| {
            let path = file.strip_prefix(&root).ok()?.to_str()?.to_owned();
            Some(Source { path, text: fs::read_to_string(&file).ok()? })
        })
        .collect()
}

/// Reads the files of a folder whose names end with a dot and `extension`.
pub fn sources(folder: &str, extension: &str) -> Vec<Source> {
    texts(folder).into_iter().filter(|source| source.has_extension(extension)).collect()
}

/// Fails with all problems, a line each.
#[track_caller]
pub fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
