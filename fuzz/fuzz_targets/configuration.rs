//! The configuration: any text is a configuration in its ranges, or one line that says where it is
//! wrong.

#![no_main]

use std::path::Path;

use florin::service::{Configuration, ConfigurationError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Configuration::parse(text, Path::new("florin.toml")) {
        Ok(configuration) => {
            let settings = &configuration.settings;
            assert!(configuration.state_directory.is_absolute());
            assert!((1..=64).contains(&settings.phones_max));
            assert!(settings.retry_backoff_min_ms <= settings.retry_backoff_max_ms);
            assert!((1..=3600).contains(&settings.valid_for_s));
            let till = configuration.till_address.to_string();
            assert_eq!(till.parse().as_ref(), Ok(&configuration.till_address));
            if let Some(institution) = &configuration.institution {
                assert_eq!(institution.to_string().parse().as_ref(), Ok(institution));
            }
        }
        Err(ConfigurationError::Wrong { place, problem, .. }) => {
            assert!(!problem.is_empty() && !problem.contains('\n'), "{problem:?}");
            assert!(
                (1..=text.lines().count() + 1).contains(&place.line) && place.column >= 1,
                "{place}"
            );
        }
        Err(other) => panic!("no file was read: {other}"),
    }
});
