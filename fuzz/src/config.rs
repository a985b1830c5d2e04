//! `config.json`: what is read is written and read again as the same model.

use frugal_model::config::ModelConfig;
use frugal_model::params::Params;

use crate::memory;

const MEGABYTES: usize = 64;
/// Trees above this are not made, to be quick.
const LAYERS: usize = 64;

/// Checks one file.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    memory::within(MEGABYTES, || {
        let config = match ModelConfig::from_json(text) {
            Ok(config) => config,
            Err(error) => {
                assert!(error.to_string().contains("config.json"), "{error}");
                return false;
            }
        };
        config.check().unwrap();
        let written = config.to_json();
        assert_eq!(ModelConfig::from_json(&written).as_ref(), Ok(&config));
        if config.num_hidden_layers <= LAYERS
            && let Ok(tree) = Params::spec(&config)
        {
            let count = tree.count(&config);
            assert!(0 < count.active && count.active <= count.total);
        }
        true
    })
}
