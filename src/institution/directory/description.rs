//! The file `institution.json`: everything about an institution that is not secret.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use crate::credential::{Signed, VerifyingKey};
use crate::institution::keys::InstitutionKeys;

/// The only format so far.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: u32,
    name: String,
    host_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    two_people_above_minor: Option<u64>,
    root_public_key_hex: String,
    keyring_base64: String,
}

/// Everything about an institution that is not secret.
pub(super) struct Description {
    pub name: String,
    pub host_names: Vec<String>,
    /// Above this amount, in minor units, an operator's action takes two people.
    pub two_people_above_minor: Option<u64>,
    pub root_public_key: VerifyingKey,
    pub keyring: Signed,
}

impl Description {
    pub(super) fn of(
        name: &str,
        host_names: &[String],
        two_people_above_minor: Option<u64>,
        keys: &InstitutionKeys,
    ) -> Self {
        Self {
            name: name.to_owned(),
            host_names: host_names.to_vec(),
            two_people_above_minor,
            root_public_key: *keys.root_public_key(),
            keyring: keys.keyring().clone(),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&Json {
            format: FORMAT,
            name: self.name.clone(),
            host_names: self.host_names.clone(),
            two_people_above_minor: self.two_people_above_minor,
            root_public_key_hex: HEXLOWER.encode(&self.root_public_key.to_sec1()),
            keyring_base64: BASE64.encode(&self.keyring.encode()),
        })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`DirectoryError::Damaged`].
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, DirectoryError> {
        let damaged = |detail: &str| DirectoryError::damaged(path, detail);
        let json: Json = serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
        if json.format != FORMAT {
            let detail = format!("it has format {}, and this program reads {FORMAT}", json.format);
            return Err(damaged(&detail));
        }
        let root_public_key = HEXLOWER
            .decode(json.root_public_key_hex.as_bytes())
            .ok()
            .and_then(|octets| VerifyingKey::from_sec1(&octets).ok())
            .ok_or_else(|| damaged("root_public_key_hex is not a public key"))?;
        let keyring = BASE64
            .decode(json.keyring_base64.as_bytes())
            .ok()
            .and_then(|octets| Signed::decode(&octets).ok())
            .ok_or_else(|| damaged("keyring_base64 is not a keyring"))?;
        Ok(Self {
            name: json.name,
            host_names: json.host_names,
            two_people_above_minor: json.two_people_above_minor,
            root_public_key,
            keyring,
        })
    }
}
