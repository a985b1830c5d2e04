//! How evenly the experts were used: a heat map for each routing layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use maud::{Markup, html};

use super::numbers::compact;
use super::plot::at;
use super::series::{StageLog, runs};
use super::story::{BASE, ZERO};

/// Most columns of a map.
const MOST_COLUMNS: usize = 40;
/// Shades above none.
const SHADES: f64 = 8.0;
/// Most layers and experts that are drawn.
const MOST_LAYERS: usize = 64;
const MOST_EXPERTS: usize = 256;
const LEFT: f64 = 20.0;
const WIDTH: f64 = 320.0;

/// The section of the page.
pub(super) fn section(stages: &[StageLog<'_>]) -> Markup {
    let drawn: Vec<(&StageLog<'_>, Vec<Markup>)> = stages
        .iter()
        .map(|stage| (stage, maps(stage)))
        .filter(|(_, maps)| !maps.is_empty())
        .collect();
    if drawn.is_empty() {
        return html! {};
    }
    html! {
        section #experts {
            h2 { "Expert load" }
            p.note {
                "Which share of the tokens each expert received, over the steps of a stage. The \
                 selection bias moves against the load after every step. Each map names the \
                 fullest expert's multiple of the even share, first and last."
            }
            p.legend aria-hidden="true" {
                @for (level, words) in [(0, "none"), (4, "even share"), (8, "twice that or more")] {
                    span class={ "swatch shade" (level) } {} (words) " "
                }
            }
            @for (stage, maps) in &drawn {
                details.stage open[[BASE, ZERO].contains(&stage.name)] {
                    summary { b { (stage.name) } span.soft { (maps.len()) " routing layers" } }
                    div.panels { @for map in maps { (map) } }
                }
            }
        }
    }
}

/// The mean of each expert over a run of steps.
fn column(run: &[(f64, Vec<Vec<f64>>)], layer: usize, n_experts: usize) -> Vec<f64> {
    let mut sums = vec![0.0; n_experts];
    for (_, layers) in run {
        let Some(shares) = layers.get(layer) else {
            continue;
        };
        for (sum, share) in sums.iter_mut().zip(shares) {
            *sum += share;
        }
    }
    sums.iter()
        .map(|sum| sum / run.len().max(1) as f64)
        .collect()
}

fn maps(stage: &StageLog<'_>) -> Vec<Markup> {
    let loads = stage.expert_load();
    let Some((_, first)) = loads.first() else {
        return vec![];
    };
    let runs = runs(&loads, MOST_COLUMNS);
    let steps = (
        loads.first().map_or(0.0, |l| l.0),
        loads.last().map_or(0.0, |l| l.0),
    );
    let layers = first.iter().take(MOST_LAYERS).enumerate();
    layers
        .filter(|(_, shares)| (1..=MOST_EXPERTS).contains(&shares.len()))
        .map(|(layer, shares)| {
            let columns: Vec<Vec<f64>> = runs
                .iter()
                .map(|run| column(run, layer, shares.len()))
                .collect();
            map(stage.name, layer + 1, &columns, steps)
        })
        .collect()
}

/// The fullest expert's share over the even one.
fn fullest(column: Option<&Vec<f64>>) -> f64 {
    column.map_or(0.0, |shares| {
        shares.iter().copied().fold(0.0, f64::max) * shares.len() as f64
    })
}

fn map(stage: &str, layer: usize, columns: &[Vec<f64>], steps: (f64, f64)) -> Markup {
    let n_experts = columns.first().map_or(1, Vec::len);
    let row_height = (112.0 / n_experts as f64).clamp(3.0, 14.0);
    let height = row_height * n_experts as f64;
    let (from, to) = (fullest(columns.first()), fullest(columns.last()));
    let words = format!(
        "Expert load of routing layer {layer} in stage {stage}: the fullest of {n_experts} experts \
         takes {} times the even share at step {} and {} times at step {}.",
        compact(from),
        compact(steps.0),
        compact(to),
        compact(steps.1),
    );
    html! {
        figure.chart {
            figcaption {
                b { "Routing layer " (layer) } " "
                span.unit { "fullest " (compact(from)) "× → " (compact(to)) "×" }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (at(height + 22.0)) } role="img" aria-label=(words) {
                title { (words) }
                @for (level, path) in cells(columns, row_height) {
                    path class={ "shade" (level) } d=(path) {}
                }
                text.tick x=(at(LEFT - 5.0)) y=(at(row_height.midpoint(8.0))) text-anchor="end" { "1" }
                text.tick x=(at(LEFT - 5.0)) y=(at(height - (row_height - 8.0) / 2.0))
                    text-anchor="end" { (n_experts) }
                text.tick x=(at(LEFT)) y=(at(height + 16.0)) { "step " (compact(steps.0)) }
                text.tick x=(at(WIDTH)) y=(at(height + 16.0)) text-anchor="end" { (compact(steps.1)) }
            }
        }
    }
}

/// One path for each shade, equal neighbours in a row joined: small, however many steps there were.
fn cells(columns: &[Vec<f64>], row_height: f64) -> BTreeMap<u8, String> {
    let n_experts = columns.first().map_or(1, Vec::len);
    let width = (WIDTH - LEFT) / columns.len().max(1) as f64;
    let mut paths: BTreeMap<u8, String> = BTreeMap::new();
    for expert in 0..n_experts {
        let shades: Vec<u8> = columns
            .iter()
            .map(|column| shade(column.get(expert).copied().unwrap_or(0.0) * n_experts as f64))
            .collect();
        let mut start = 0;
        for run in shades.chunk_by(|a, b| a == b) {
            let path = paths.entry(run.first().copied().unwrap_or(0)).or_default();
            let (x, y) = (LEFT + start as f64 * width, expert as f64 * row_height);
            let (w, h) = (run.len() as f64 * width, row_height - 0.8);
            // Writing to a String cannot fail.
            let _ = write!(path, "M{} {}h{}v{}h-{}z", at(x), at(y), at(w), at(h), at(w));
            start += run.len();
        }
    }
    paths
}

/// The shade of a load, 1 being the even share: half of all shades.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies between 0 and SHADES, and a cast saturates"
)]
fn shade(load: f64) -> u8 {
    (load / 2.0 * SHADES).round().clamp(0.0, SHADES) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_even_share_is_the_middle_shade() {
        let rows = [
            (0.0, 0),
            (1.0, 4),
            (2.0, 8),
            (7.0, 8),
            (0.5, 2),
            (f64::NAN, 0),
        ];
        for (load, expected) in rows {
            assert_eq!(shade(load), expected, "{load}");
        }
    }

    #[test]
    fn equal_neighbours_are_one_piece() {
        let columns = vec![vec![0.5, 0.5]; 10];
        let cells = cells(&columns, 10.0);
        assert_eq!(cells.keys().copied().collect::<Vec<_>>(), [4]);
        assert_eq!(
            cells[&4].matches('M').count(),
            2,
            "one piece for each of two experts"
        );
    }
}
