//! The curves of every stage as small multiples, and the three that show R1-Zero's turn.

use maud::{Markup, html};

use super::plot::{self, Across, Chart, Line, Unit};
use super::results::meaning;
use super::series::{StageLog, thinned};
use super::story::{BASE, ZERO};

/// One panel: the journal's names of its lines and their labels.
struct Panel {
    title: &'static str,
    unit: Unit,
    lines: &'static [(&'static str, &'static str)],
}

const ACCURACY: Panel = Panel {
    title: "Accuracy while training",
    unit: Unit::WholeShare,
    lines: &[("accuracy", "right"), ("in_form", "in form")],
};
const THINKING: Panel = Panel {
    title: "Thinking length",
    unit: Unit::Of("tokens an answer"),
    lines: &[("thinking_tokens", "thinking")],
};
const CHECKS: Panel = Panel {
    title: "Self-checks",
    unit: Unit::Of("an answer"),
    lines: &[("self_checks", "self-checks")],
};

/// What everybody wants to see.
const MAIN: &[Panel] = &[
    Panel {
        title: "Loss",
        unit: Unit::Of("nats a token"),
        lines: &[
            ("loss", "loss"),
            ("mtp_loss", "MTP"),
            ("held_out_loss", "held out"),
        ],
    },
    ACCURACY,
    THINKING,
    CHECKS,
    Panel {
        title: "Entropy",
        unit: Unit::Of("nats a token"),
        lines: &[("entropy", "entropy")],
    },
    Panel {
        title: "Groups without signal",
        unit: Unit::WholeShare,
        lines: &[("groups_without_signal", "without")],
    },
    Panel {
        title: "KL to the reference",
        unit: Unit::Of("nats a token"),
        lines: &[("kl", "KL")],
    },
];

/// What tells whether a stage is healthy.
const HEALTH: &[Panel] = &[
    Panel {
        title: "Reward",
        unit: Unit::Of("mean"),
        lines: &[("reward", "reward")],
    },
    Panel {
        title: "Answer length",
        unit: Unit::Of("tokens"),
        lines: &[("response_tokens", "answer")],
    },
    Panel {
        title: "Cut off",
        unit: Unit::SmallShare,
        lines: &[("truncated", "cut off")],
    },
    Panel {
        title: "Clipped tokens",
        unit: Unit::SmallShare,
        lines: &[("clip_fraction", "clipped")],
    },
    Panel {
        title: "Largest log-ratio of trainer to rollout",
        unit: Unit::Of("nats"),
        lines: &[("largest_log_ratio", "largest")],
    },
    Panel {
        title: "Gradient norm",
        unit: Unit::Of("before clipping"),
        lines: &[("gradient_norm", "norm")],
    },
    Panel {
        title: "Learning rate",
        unit: Unit::Of("a step"),
        lines: &[("learning_rate", "rate")],
    },
    Panel {
        title: "Fullest expert",
        unit: Unit::Of("above even share"),
        lines: &[("max_violation", "over")],
    },
];

fn figure(stage: &StageLog<'_>, panel: &Panel) -> Option<Markup> {
    let line = |(metric, label): &(&str, &str)| {
        let values = stage.metric(metric);
        // A term that is switched off is 0 from end to end and has no curve.
        let is_off = values.iter().all(|(_, value)| value.abs() < 1e-12);
        let points = if is_off && panel.unit != Unit::WholeShare {
            vec![]
        } else {
            thinned(&values)
        };
        Line {
            name: (*label).to_owned(),
            points,
        }
    };
    chart(
        stage,
        panel.title,
        panel.unit,
        panel.lines.iter().map(line).collect(),
    )
}

fn speed(stage: &StageLog<'_>) -> Option<Markup> {
    let points = thinned(&stage.tokens_per_second());
    let line = Line {
        name: "tokens".into(),
        points,
    };
    chart(stage, "Speed", Unit::Of("tokens a second"), vec![line])
}

fn chart(stage: &StageLog<'_>, title: &str, unit: Unit, lines: Vec<Line>) -> Option<Markup> {
    plot::figure(&Chart {
        title: title.to_owned(),
        place: format!("stage {}", stage.name),
        unit,
        across: Across::Steps,
        lines,
        level: None,
        upright: None,
    })
}

/// Accuracy, thinking and self-checks of R1-Zero side by side.
pub(super) fn turn(stages: &[StageLog<'_>]) -> Markup {
    let Some(stage) = stages.iter().find(|stage| stage.name == ZERO) else {
        return html! {};
    };
    let figures: Vec<Markup> = [ACCURACY, THINKING, CHECKS]
        .iter()
        .filter_map(|panel| figure(stage, panel))
        .collect();
    if figures.is_empty() {
        return html! {};
    }
    html! {
        div.turning {
            div.panels { @for figure in &figures { (figure) } }
            p.note {
                "R1-Zero, step by step, on the problems it was training on. The scores further \
                 down are of held-out problems."
            }
        }
    }
}

/// The section of the page.
pub(super) fn section(stages: &[StageLog<'_>]) -> Markup {
    let drawn: Vec<(&StageLog<'_>, Markup)> = stages
        .iter()
        .filter_map(|stage| Some((stage, panels(stage)?)))
        .collect();
    if drawn.is_empty() {
        return html! {};
    }
    html! {
        section #curves {
            h2 { "Every stage, step by step" }
            p.note {
                "Lines are means over neighbouring steps where a stage has more than 120; the pale \
                 band is the range within them."
            }
            @for (stage, panels) in &drawn {
                details.stage open[[BASE, ZERO].contains(&stage.name)] {
                    summary {
                        b { (stage.name) }
                        span.soft {
                            (stage.kind) ", " (stage.n_steps())
                            @if stage.n_steps() == 1 { " step" } @else { " steps" }
                        }
                        @if let Some(meaning) = meaning(stage.name) { span.soft { (meaning) } }
                    }
                    (panels)
                }
            }
        }
    }
}

fn panels(stage: &StageLog<'_>) -> Option<Markup> {
    let mut main: Vec<Markup> = MAIN
        .iter()
        .filter_map(|panel| figure(stage, panel))
        .collect();
    main.extend(speed(stage));
    let health: Vec<Markup> = HEALTH
        .iter()
        .filter_map(|panel| figure(stage, panel))
        .collect();
    if main.is_empty() && health.is_empty() {
        return None;
    }
    Some(html! {
        div.panels { @for figure in &main { (figure) } }
        @if !health.is_empty() {
            details.more {
                summary { "Signs of health" }
                div.panels { @for figure in &health { (figure) } }
            }
        }
    })
}
