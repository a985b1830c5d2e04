//! The sentences of refusals, each about one place.

use crate::recipe::{Recipe, RecipeError, Stage};

/// Checked, or the sentence why not.
pub(super) type Checked = Result<(), RecipeError>;

/// Most samples of one step, problem set or rejection round.
const MAX_SAMPLES: u64 = 1 << 20;

/// Which references a kind needs (`Must`), takes (`May`) or refuses (`No`).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Need {
    Must,
    May,
    No,
}

/// The place a refusal is about.
#[derive(Clone, Copy)]
pub(super) struct At<'a>(pub(super) &'a str);

impl At<'_> {
    pub(super) fn refuse(self, message: impl Into<String>) -> Checked {
        Err(RecipeError::bad(self.0, message))
    }

    pub(super) fn at_least(self, field: &str, value: u32, least: u32) -> Checked {
        if value >= least {
            return Ok(());
        }
        self.refuse(format!("{field} must be {least} or more, got {value}"))
    }

    pub(super) fn within(self, field: &str, value: u32, least: u32, most: u32) -> Checked {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        self.refuse(format!("{field} must be {least} to {most}, got {value}"))
    }

    pub(super) fn even(self, field: &str, value: u32) -> Checked {
        if value.is_multiple_of(2) {
            return Ok(());
        }
        self.refuse(format!(
            "{field} must be even, since rotation takes pairs, got {value}"
        ))
    }

    pub(super) fn floor(self, field: &str, value: u32, floor_field: &str, floor: u32) -> Checked {
        // A part that is switched off has no floor.
        if value == 0 || floor <= value {
            return Ok(());
        }
        self.refuse(format!(
            "{floor_field} must be at most {field} = {value}, got {floor}"
        ))
    }

    pub(super) fn above_zero(self, field: &str, value: f64) -> Checked {
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        self.refuse(format!("{field} must be above 0, got {value}"))
    }

    pub(super) fn not_negative(self, field: &str, value: f64) -> Checked {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        self.refuse(format!("{field} must be 0 or more, got {value}"))
    }

    pub(super) fn share(self, field: &str, value: f64) -> Checked {
        if (0.0..=1.0).contains(&value) {
            return Ok(());
        }
        self.refuse(format!("{field} must be 0 to 1, got {value}"))
    }

    pub(super) fn samples(self, a_field: &str, a: u32, b_field: &str, b: u32) -> Checked {
        let product = u64::from(a) * u64::from(b);
        if product <= MAX_SAMPLES {
            return Ok(());
        }
        self.refuse(format!(
            "{a_field} x {b_field} = {a} x {b} = {product} samples, expected at most {MAX_SAMPLES}"
        ))
    }

    pub(super) fn fits_context(
        self,
        recipe: &Recipe,
        stage: &Stage,
        max_new_tokens: u32,
    ) -> Checked {
        if let Some((name, shape)) = recipe.model_of(stage) {
            let positions = shape.max_position_embeddings;
            if max_new_tokens >= positions {
                return self.refuse(format!(
                    "max_new_tokens must be below the max_position_embeddings {positions} of model \
                     `{name}`, since the prompt needs room, got {max_new_tokens}"
                ));
            }
        }
        match recipe.import() {
            Some((import, settings)) if max_new_tokens >= settings.positions => {
                self.refuse(format!(
                    "max_new_tokens must be below the positions {} of stage `{}`, since the prompt \
                     needs room, got {max_new_tokens}",
                    settings.positions, import.name
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn reference(
        self,
        role: &'static str,
        name: Option<&str>,
        need: Need,
        known: &[&str],
        kind: &str,
    ) -> Checked {
        let list = || {
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        };
        let article = if kind.starts_with(['e', 'i']) {
            "an"
        } else {
            "a"
        };
        match (name, need) {
            (Some(name), Need::No) => self.refuse(format!(
                "{article} {kind} stage takes no `{role}`, got `{name}`"
            )),
            (None, Need::Must) => self.refuse(format!(
                "{article} {kind} stage needs `{role}`, expected one of {}, got none",
                list()
            )),
            (Some(name), _) if !known.contains(&name) => Err(RecipeError::UnknownName {
                place: self.0.into(),
                role,
                name: name.into(),
                known: list(),
            }),
            _ => Ok(()),
        }
    }
}
