//! What the loader knows of a model, for the store's records: the store itself knows no model.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_kernels::mapped;
use frugal_model::checkpoint::{self, Leaf, gguf};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Role};
use frugal_run::models::{BoxError, Facts, Loader};

/// Largest `config.json` or index that is read.
const MAX_SMALL_BYTES: u64 = 64 << 20;
const INDEX: &str = "model.safetensors.index.json";

/// Looks at models with the loader that runs them.
pub(crate) struct Known;

impl Loader for Known {
    fn accepts(&self, folder: &Path) -> Result<(), BoxError> {
        let config = config(folder)?;
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
    let (config, leaves) = if path.is_dir() {
        folder(path)?
    } else {
        gguf::read(&gguf::Gguf::parse(mapped_file(path)?)?)?
    };
    let count = Params::spec(&config)?.count(&config);
    Ok(Facts {
        architecture: format!("{:?}", config.architecture),
        parameters: Some(count.total + count.mtp),
        active_parameters: Some(count.active),
        format: format(&leaves),
    })
}

fn folder(path: &Path) -> anyhow::Result<(ModelConfig, Params<Leaf>)> {
    let config = config(path)?;
    let index = path.join(INDEX);
    let mut files: Vec<SharedBytes> = Vec::new();
    if index.is_file() {
        let index = small(&index)?;
        let names = checkpoint::file_names(&index)?;
        for name in &names {
            files.push(mapped_file(&path.join(name))?);
        }
        checkpoint::check_index(&index, &names, &files)?;
    } else {
        files.push(mapped_file(&only_safetensors(path)?)?);
    }
    Ok(checkpoint::read(&config, &files)?)
}

/// The one file of weights of a folder without an index.
fn only_safetensors(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let usual = folder.join("model.safetensors");
    if usual.is_file() {
        return Ok(usual);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            found.push(path);
        }
    }
    match <[_; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(found) => anyhow::bail!(
            "expected model.safetensors or {INDEX} in {}, got neither beside {} others",
            folder.display(),
            found.len()
        ),
    }
}

fn config(folder: &Path) -> anyhow::Result<ModelConfig> {
    let path = folder.join("config.json");
    let text = String::from_utf8(small(&path)?).context("config.json")?;
    ModelConfig::from_json(&text).with_context(|| format!("in {}", path.display()))
}

fn mapped_file(path: &Path) -> anyhow::Result<SharedBytes> {
    mapped::map(path).with_context(|| format!("cannot read {}", path.display()))
}

fn small(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || format!("cannot read {}", path.display());
    let bytes = path.metadata().with_context(read)?.len();
    anyhow::ensure!(
        bytes <= MAX_SMALL_BYTES,
        "expected at most {MAX_SMALL_BYTES} bytes in {}, got {bytes}",
        path.display()
    );
    std::fs::read(path).with_context(read)
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
            ("qwen2", "Qwen2", "F32"),
            ("llama3", "Llama", "F32"),
            ("deepseek_v3", "DeepseekV3", "F32"),
            ("deepseek_v3_fp8", "DeepseekV3", "FP8"),
        ] {
            let folder = golden.join(name);
            Known.accepts(&folder).unwrap();
            let facts = facts(&folder).unwrap();
            assert_eq!(facts.architecture, architecture, "{name}");
            assert!(facts.format.starts_with(format), "{name}: {}", facts.format);
            let (all, active) = (facts.parameters.unwrap(), facts.active_parameters.unwrap());
            assert!(0 < active && active <= all, "{name}: {active} of {all}");
            assert_eq!(active < all, architecture == "DeepseekV3", "{name}");
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
