//! What a model needs on this machine and how fast it will be, in each format.

use std::process::ExitCode;

use frugal_core::backend::KeyBits;
use frugal_core::dtype::DType;
use frugal_core::quant::{BlockFormat, Format};
use frugal_model::params::{Params, Spec};
use serde_json::json;

use crate::cli::{Common, PlanOf, Which};
use crate::device::{self, Precision};
use crate::export::stored_in;
use crate::forecast::{Forecast, Machine, all_in};
use crate::models;
use crate::output::{metric, say, say_json, table};

/// Formats that a model may be brought to.
const FORMATS: [Format; 7] = [
    Format::Plain(DType::F32),
    Format::Plain(DType::Bf16),
    Format::Fp8Blocks([128, 128]),
    Format::Blocks(BlockFormat::Q8_0),
    Format::Blocks(BlockFormat::Q6K),
    Format::Blocks(BlockFormat::Q4K),
    Format::Blocks(BlockFormat::Q4_0),
];

pub(super) fn run(common: &Common, arguments: &PlanOf) -> anyhow::Result<ExitCode> {
    let which = Which {
        model: arguments.chosen.recipe.clone(),
        stage: None,
    };
    let opened = models::find(common, &which)?.open()?;
    let config = &opened.config;
    let context = opened.positions(arguments.context);
    let device = device::open(common, Precision::Bf16)?;
    let mut machine = Machine::measure(&device);
    let as_stored = models::formats(&opened);
    let mut rows: Vec<(String, Forecast)> = vec![(
        format!("{} (as stored)", stored_in(&opened)),
        machine.forecast(config, &as_stored, (context, KeyBits::AsProducts))?,
    )];
    for format in FORMATS {
        let forecast = machine.forecast(
            config,
            &all_in(config, format)?,
            (context, KeyBits::AsProducts),
        )?;
        rows.push((format.to_string(), forecast));
    }
    let count = Params::<Spec>::spec(config)?.count(config);
    if common.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(format, forecast)| {
                json!({
                    "format": format,
                    "weight_bytes": forecast.weight_bytes,
                    "cache_bytes_per_token": forecast.cache_bytes_per_token,
                    "prompt_tokens_per_second": forecast.prompt_tokens_per_second,
                    "answer_tokens_per_second": forecast.answer_tokens_per_second,
                })
            })
            .collect();
        say_json(&json!({
            "event": "plan", "model": opened.name, "architecture": config.architecture.class_name(),
            "parameters": count.total, "active_parameters": count.active,
            "context": context, "formats": rows,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format!(
        "{}: {}, {} layers, {} parameters, {} of them for a token",
        opened.name,
        config.architecture.class_name(),
        config.num_hidden_layers,
        metric(count.total as f64).trim_end(),
        metric(count.active as f64).trim_end()
    ));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(format, forecast)| {
            vec![
                format.clone(),
                format!("{}B", metric(forecast.weight_bytes as f64)),
                format!(
                    "{}B",
                    metric((forecast.cache_bytes_per_token * context as u64) as f64)
                ),
                format!("{:.1}", forecast.prompt_tokens_per_second),
                format!("{:.1}", forecast.answer_tokens_per_second),
            ]
        })
        .collect();
    let cache = format!("cache of {context}");
    say(table(
        &[
            "format",
            "weights",
            &cache,
            "prompt tokens/s",
            "answer tokens/s",
        ],
        &cells,
    ));
    say(
        "speeds are forecasts from products measured here, for an answer in the middle of such a conversation",
    );
    Ok(ExitCode::SUCCESS)
}
