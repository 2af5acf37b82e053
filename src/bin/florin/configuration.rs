//! The service's configuration, as the commands read it.

use std::path::Path;

use florin::service::{CONFIGURATION_PATH, Configuration, ConfigurationError, ServiceError};

/// Reads the configuration. The default file need not be there.
pub fn configuration(path: &Path) -> Result<Configuration, ServiceError> {
    match Configuration::read(path) {
        Err(ConfigurationError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound
                && path == Path::new(CONFIGURATION_PATH) =>
        {
            tracing::debug!("there is no {CONFIGURATION_PATH}; every setting has its default");
            Ok(Configuration::default())
        }
        result => Ok(result?),
    }
}
