//! Stores the state of the simulators between runs: one JSON file, readable by its owner only, since it contains
//! tokens.

use std::path::Path;

use crate::world::State;

/// Reads the saved state. It is empty if there is no file.
pub(crate) fn load(path: &Path) -> Result<State, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            format!("The saved state {} cannot be read ({error}); remove it to start anew.", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(format!("The saved state {} cannot be opened: {error}.", path.display())),
    }
}

/// Writes a new file and renames it over the old one, so that a crash leaves the old state whole.
pub(crate) fn save(path: &Path, state: &State) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("The state {} cannot be saved: {error}.", path.display());
    let bytes = serde_json::to_vec(state).map_err(|error| failed(&error))?;
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        std::io::Write::write_all(&mut options.open(&beside)?, &bytes)?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error: std::io::Error| failed(&error))
}

/// Bytes as base64, for the files within the JSON.
pub(crate) mod as_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the bytes.
    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads them back.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
