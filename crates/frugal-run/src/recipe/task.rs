//! What the run is about and how it behaves as a process: the task section and the run section.
//! The knobs of a task are read by the task itself, with the same strictness as everything else.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{RecipeError, schema};

/// The task section: which task, how hard, and what its base corpus is mixed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSettings {
    /// Name of the task.
    pub name: String,
    /// Difficulty knobs, known to the task. A stage's own `difficulty` is laid over these.
    pub difficulty: Table,
    /// Shares of habits in the base corpus, known to the task.
    pub mix: Table,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            name: "countdown".into(),
            difficulty: Table::new(),
            mix: Table::new(),
        }
    }
}

impl TaskSettings {
    /// The difficulty as the task's own type: `defaults`, then the task section, then `over`, the
    /// stage's own difficulty.
    ///
    /// # Errors
    /// Names the unknown or ill-typed knob and the nearest known one.
    pub fn difficulty<T>(&self, defaults: &T, over: &Table) -> Result<T, RecipeError>
    where
        T: Serialize + DeserializeOwned,
    {
        let mut written = self.difficulty.clone();
        written.extend(over.clone());
        schema::read(defaults, &written, "task.difficulty")
    }

    /// The mix of the base corpus as the task's own type: `defaults` under the task section.
    ///
    /// # Errors
    /// Names the unknown or ill-typed knob and the nearest known one.
    pub fn mix<T: Serialize + DeserializeOwned>(&self, defaults: &T) -> Result<T, RecipeError> {
        schema::read(defaults, &self.mix, "task.mix")
    }
}

/// The run section: checkpoints, watching, price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// A resume state is written every so many steps of a stage.
    pub checkpoint_steps: u32,
    /// Resume states kept per stage. Two or more, so that a damaged one can be stepped over.
    pub keep_checkpoints: u32,
    /// A small evaluation is journaled every so many steps; 0 for never.
    pub evaluate_steps: u32,
    /// Problems of that evaluation. Never the held-out ones.
    pub evaluate_problems: u32,
    /// Money per core-hour.
    pub price_per_core_hour: f64,
    /// Its currency.
    pub currency: String,
    /// Power of one busy core, for the energy estimate where the machine has no counter.
    pub watts_per_core: f64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            checkpoint_steps: 50,
            keep_checkpoints: 2,
            evaluate_steps: 10,
            evaluate_problems: 64,
            // The list price of a two-core compute instance at the large clouds is about 0.10 an
            // hour.
            price_per_core_hour: 0.05,
            currency: "USD".into(),
            watts_per_core: crate::consumption::WATTS_PER_CORE,
        }
    }
}
