//! Shared by tests: recorded data, and a sampler that needs no model.

use std::io::Read;
use std::path::Path;

use frugal_core::rng::{Rng, key};

use crate::encode::Codec;
use crate::evaluate::{BoxError, SampleRequest, Sampled, Sampler};
use crate::knobs::Mix;
use crate::task::Task;

/// The text of a recorded data file, unzipped if need be; nothing, with a visible line, where the
/// data folder is absent.
pub(crate) fn data(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {name} is not there");
        return None;
    };
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        return Some(text);
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// A sampler that speaks the base corpus: what it continues is drawn from a task's habits, greedy
/// continuations and such that have begun to think being patient.
#[derive(Debug)]
pub(crate) struct Scripted<'a> {
    task: &'a dyn Task,
    codec: &'a Codec,
    mix: Mix,
}

impl<'a> Scripted<'a> {
    pub(crate) fn new(task: &'a dyn Task, codec: &'a Codec, mix: Mix) -> Self {
        Self { task, codec, mix }
    }

    fn continuation(&self, prompt: &str, is_greedy: bool, rng: &mut Rng) -> String {
        let (question, begun) = match prompt.find(" <think>") {
            Some(at) => prompt.split_at(at),
            None => (prompt, ""),
        };
        let problem = self
            .task
            .parse(question.trim_start_matches("<bos> "))
            .unwrap();
        let patient = Mix {
            blurt: 0.0,
            hasty: 0.0,
            ..self.mix.clone()
        };
        let mix = if is_greedy || !begun.is_empty() {
            &patient
        } else {
            &self.mix
        };
        let whole = format!("{} <eos>", self.task.habit(&problem, rng, mix).unwrap());
        whole.strip_prefix(begun.trim_start()).unwrap().to_owned()
    }
}

impl Sampler for Scripted<'_> {
    fn sample(
        &mut self,
        prompts: &[Vec<u32>],
        request: &SampleRequest,
    ) -> Result<Vec<Vec<Sampled>>, BoxError> {
        let mut rng = Rng::derive(&[request.seed, key("scripted")]);
        let mut all = Vec::new();
        for prompt in prompts {
            let prompt = self.codec.decode(prompt)?;
            let mut samples = Vec::new();
            for _ in 0..request.n {
                let text = self.continuation(&prompt, request.temperature == 0.0, &mut rng);
                let mut ids = self.codec.encode(&text)?;
                let finished = ids.len() <= request.max_new_tokens;
                ids.truncate(request.max_new_tokens);
                samples.push(Sampled { ids, finished });
            }
            all.push(samples);
        }
        Ok(all)
    }
}
