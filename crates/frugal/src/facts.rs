//! What the loader knows of a model, for the store's records: the store itself knows no model.

use std::collections::BTreeMap;
use std::path::Path;

use frugal_core::stored::Stored;
use frugal_model::checkpoint::Leaf;
use frugal_model::params::{Params, Role};
use frugal_run::models::{BoxError, Facts, Loader};

use crate::models::{self, Opened};

/// Looks at models with the loader that runs them.
pub(crate) struct Known;

impl Loader for Known {
    fn accepts(&self, folder: &Path) -> Result<(), BoxError> {
        let config = models::config_in(folder)?;
        // All its tensors have names and sizes, so it can be built.
        Params::spec(&config)?;
        Ok(())
    }

    fn facts(&self, path: &Path) -> Result<Facts, BoxError> {
        Ok(facts(path)?)
    }
}

/// Opens a folder of safetensors or a GGUF file as `chat` would, and counts what is there.
pub(crate) fn facts(path: &Path) -> anyhow::Result<Facts> {
    of(&models::at(path)?.open()?)
}

/// The same of a model that is open.
pub(crate) fn of(opened: &Opened) -> anyhow::Result<Facts> {
    let count = Params::spec(&opened.config)?.count(&opened.config);
    Ok(Facts {
        architecture: opened.config.architecture.class_name().to_owned(),
        parameters: Some(count.total + count.mtp),
        active_parameters: Some(count.active),
        format: format(&opened.leaves),
    })
}

/// What the matrices are stored in, the one with most bytes first: `Q4_K+Q6_K`.
fn format(leaves: &Params<Leaf>) -> String {
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for leaf in leaves.leaves() {
        let is_matrix = matches!(
            leaf.spec.role,
            Role::Matrix | Role::Experts | Role::Embedding | Role::Head
        );
        for part in leaf.parts.iter().filter(|_| is_matrix) {
            let name = match part {
                Stored::Fp8Blocks { .. } => "FP8".to_owned(),
                other => other.format().to_string().to_uppercase(),
            };
            *bytes.entry(name).or_default() += part.bytes().len();
        }
    }
    let mut names: Vec<(String, usize)> = bytes.into_iter().collect();
    names.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
    names.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_folders_are_known_by_what_they_hold() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
        if !golden.is_dir() {
            eprintln!("skipped: no {}", golden.display());
            return;
        }
        for (name, architecture, format) in [
            ("qwen2", "Qwen2ForCausalLM", "F32"),
            ("llama3", "LlamaForCausalLM", "F32"),
            ("deepseek_v3", "DeepseekV3ForCausalLM", "F32"),
            ("deepseek_v3_fp8", "DeepseekV3ForCausalLM", "FP8"),
        ] {
            let folder = golden.join(name);
            Known.accepts(&folder).unwrap();
            let facts = facts(&folder).unwrap();
            assert_eq!(facts.architecture, architecture, "{name}");
            assert!(facts.format.starts_with(format), "{name}: {}", facts.format);
            let (all, active) = (facts.parameters.unwrap(), facts.active_parameters.unwrap());
            assert!(0 < active && active <= all, "{name}: {active} of {all}");
            assert_eq!(
                active < all,
                architecture == "DeepseekV3ForCausalLM",
                "{name}"
            );
        }
    }

    #[test]
    fn a_config_of_an_unknown_architecture_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"architectures":["MambaForCausalLM"]}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let error = Known.accepts(folder.path()).unwrap_err();
        let error = format!("{:#}", anyhow::Error::from_boxed(error));
        assert!(error.contains("MambaForCausalLM"), "{error}");
    }
}
