//! The knobs of tasks: how hard the problems are ([`Level`]) and what habits the base corpus
//! shows ([`Mix`]). One struct of each for all tasks, so that a recipe can set any field by name;
//! each task says in its own file which fields it reads.

use frugal_core::rng::Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::task::TaskError;

/// How hard problems are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Level {
    /// Smallest size: numbers (countdown), swaps (cups), bits (parity), digits (addition).
    pub size_min: u32,
    /// Largest size.
    pub size_max: u32,
    /// Largest number (countdown), number of cups (cups).
    pub largest: u32,
    /// Smallest target (countdown).
    pub target_min: u32,
    /// Largest target (countdown).
    pub target_max: u32,
    /// Whether division, where it is exact, belongs to the problems and to the search
    /// (countdown). The grader understands it always.
    pub division: bool,
    /// The order in which the question gives its numbers (countdown).
    pub order: Order,
}

impl Default for Level {
    /// The tiny countdown: three different numbers from 1 to 12, `+ - *`, targets up to 60.
    fn default() -> Self {
        Self {
            size_min: 3,
            size_max: 3,
            largest: 12,
            target_min: 1,
            target_max: 60,
            division: false,
            order: Order::Shuffled,
        }
    }
}

/// The order of the numbers in a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any order; the model has to find out which of two numbers is larger.
    Shuffled,
    /// Largest first; easier, since a difference then keeps the question's order more often.
    Descending,
}

/// How one attempt of a countdown search is written, for `7` made of 3 + 4, times 5, target 25.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `3 + 4 7 , 7 * 5 35 25 no`: 11 words, the form known to be learned at 0.84M parameters.
    Spaced,
    /// `3 + 4 7 7 * 5 35 25 no`: 10 words.
    Tight,
    /// `, 7 * 5 35 25 no` when the attempt before began with the same step: 7 to 11 words.
    Shared,
}

/// What the base corpus is made of. Shares are weights: they need not sum to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Share of all lines that are stand-alone facts.
    pub drill: f32,
    /// Facts on one such line.
    pub facts: u32,
    /// Share of those facts that compare two numbers instead of computing one (countdown).
    pub compare: f32,
    /// Weight of answers blurted out without thinking.
    pub blurt: f32,
    /// Weight of hasty thoughts: a step or two, then an answer whatever they gave.
    pub hasty: f32,
    /// Most steps a hasty thought takes.
    pub hasty_steps: u32,
    /// Weight of patient thoughts: every step in order until done.
    pub patient: f32,
    /// Most attempts of a patient search; then it answers with its last one (countdown).
    pub patience: u32,
    /// Chance that a patient thought gives up after a failed attempt (countdown).
    pub give_up: f32,
    /// Share of patient thoughts that are about a problem without a solution, so that the base sees
    /// where a search ends that finds nothing (countdown).
    pub hopeless: f32,
    /// How attempts are written (countdown).
    pub form: Form,
}

impl Default for Mix {
    /// The countdown mix: 12 % patient, the rest hasty and mostly without any thought.
    fn default() -> Self {
        Self {
            drill: 0.1,
            facts: 8,
            compare: 0.25,
            blurt: 0.76,
            hasty: 0.12,
            hasty_steps: 2,
            patient: 0.12,
            patience: 17,
            give_up: 0.0,
            hopeless: 0.15,
            form: Form::Spaced,
        }
    }
}

/// A habit of the base corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// An answer without thinking.
    Blurt,
    /// A step or two, then an answer whatever they gave.
    Hasty,
    /// Every step in order until done.
    Patient,
}

impl Mix {
    /// The share of patient thoughts among the three habits.
    pub fn patient_share(&self) -> f32 {
        let patient = self.patient.max(0.0);
        let all = self.blurt.max(0.0) + self.hasty.max(0.0) + patient;
        if all > 0.0 { patient / all } else { 0.0 }
    }

    /// Draws a habit by the three weights; blurting if they are all zero.
    pub fn draw(&self, rng: &mut Rng) -> Habit {
        let (blurt, hasty, patient) = (
            self.blurt.max(0.0),
            self.hasty.max(0.0),
            self.patient.max(0.0),
        );
        let point = rng.uniform() * (blurt + hasty + patient);
        if point < patient {
            Habit::Patient
        } else if point < patient + hasty {
            Habit::Hasty
        } else {
            Habit::Blurt
        }
    }

    /// Says which share is impossible: each must be a number from 0, chances at most 1, counts at
    /// least 1, and at least one habit must have weight.
    pub fn check(&self, task: &str) -> Result<(), TaskError> {
        let chances = [
            ("drill", self.drill),
            ("compare", self.compare),
            ("give_up", self.give_up),
            ("hopeless", self.hopeless),
        ];
        let bad_chance = chances
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value));
        let weights = [
            ("blurt", self.blurt),
            ("hasty", self.hasty),
            ("patient", self.patient),
        ];
        let bad_weight = weights
            .into_iter()
            .find(|(_, w)| !(w.is_finite() && *w >= 0.0));
        let counts = [
            ("facts", self.facts),
            ("hasty_steps", self.hasty_steps),
            ("patience", self.patience),
        ];
        let bad_count = counts.into_iter().find(|(_, count)| *count == 0);
        let (field, got, expected) = if let Some((field, value)) = bad_chance {
            (field, value.to_string(), "a chance from 0 to 1")
        } else if let Some((field, value)) = bad_weight {
            (field, value.to_string(), "a weight from 0 up")
        } else if let Some((field, value)) = bad_count {
            (field, value.to_string(), "at least 1")
        } else if self.blurt + self.hasty + self.patient <= 0.0 {
            (
                "patient",
                self.patient.to_string(),
                "at least one of blurt, hasty, patient above 0",
            )
        } else {
            return Ok(());
        };
        Err(TaskError::Knob {
            task: task.into(),
            field,
            got,
            expected: expected.into(),
        })
    }
}

/// `base` with the fields of the JSON object `overrides` put over it; an unknown name or a wrong
/// type is an error that names it.
pub fn merged<T: Serialize + DeserializeOwned>(
    what: &'static str,
    base: &T,
    overrides: &serde_json::Value,
) -> Result<T, TaskError> {
    let error = |source| TaskError::Overrides { what, source };
    let mut value = serde_json::to_value(base).map_err(error)?;
    let fields = serde_json::Map::deserialize(overrides).map_err(error)?;
    if let Some(object) = value.as_object_mut() {
        object.extend(fields);
    }
    T::deserialize(value).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn overrides_change_only_what_they_name_and_refuse_unknown_names() {
        let level = merged("level", &Level::default(), &json!({"largest": 9})).unwrap();
        assert_eq!(
            level,
            Level {
                largest: 9,
                ..Level::default()
            }
        );
        let error = merged("level", &Level::default(), &json!({"largets": 9})).unwrap_err();
        assert!(error.to_string().contains("largets"), "{error}");
        assert!(merged("mix", &Mix::default(), &json!({"form": "loose"})).is_err());
        assert!(merged("mix", &Mix::default(), &json!(3)).is_err());
    }

    #[test]
    fn habits_are_drawn_by_their_weights() {
        let mix = Mix {
            blurt: 2.0,
            hasty: 1.0,
            patient: 1.0,
            ..Mix::default()
        };
        let mut rng = Rng::derive(&[3]);
        let mut counts = [0_u32; 3];
        for _ in 0..8_000 {
            counts[mix.draw(&mut rng) as usize] += 1;
        }
        // Five standard deviations of a binomial count: 5 sqrt(8000 * 0.25) = 224.
        assert!(
            counts[0].abs_diff(4_000) < 224 && counts[1].abs_diff(2_000) < 224,
            "{counts:?}"
        );
        let none = Mix {
            blurt: 0.0,
            hasty: 0.0,
            patient: 0.0,
            ..Mix::default()
        };
        assert_eq!(none.draw(&mut rng), Habit::Blurt);
    }

    #[test]
    fn impossible_shares_are_named() {
        let bad = [
            Mix {
                drill: 1.5,
                ..Mix::default()
            },
            Mix {
                patient: f32::NAN,
                ..Mix::default()
            },
            Mix {
                facts: 0,
                ..Mix::default()
            },
            Mix {
                blurt: 0.0,
                hasty: 0.0,
                patient: 0.0,
                ..Mix::default()
            },
        ];
        for (mix, field) in bad.iter().zip(["drill", "patient", "facts", "patient"]) {
            assert!(mix.check("t").unwrap_err().to_string().contains(field));
        }
        assert!(Mix::default().check("t").is_ok());
    }
}
