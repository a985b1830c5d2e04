//! The plan: a recipe with every number decided for one budget. The one dial is minutes; steps
//! follow it, sizes do not. Printed before the first step, and written to the run folder as a
//! recipe that, read again, plans the same.
//!
//! It knows no FLOPs: what a plan will cost is asked of the model's meter by the binary.

use std::fmt;

use crate::recipe::{ModelShape, Recipe, RecipeError, Stage, StageSettings};

/// Longest budget in minutes: ten years, so that counts stay far from overflow.
const MAX_MINUTES: f64 = 5_256_000.0;

/// Whether control stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// They are left out of the plan.
    Skip,
    /// They are part of it.
    Run,
}

/// A recipe resolved for a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The recipe with resolved numbers; its reference budget is this plan's.
    pub recipe: Recipe,
    /// The budget in minutes.
    pub budget_minutes: f64,
    /// Stages that stand on a floor, so that the plan may take longer than the budget.
    pub on_floor: Vec<String>,
}

/// The count at `factor` times the reference budget: rounded to the nearest, not below `floor`. A
/// count of 0 is a part that is switched off, and stays 0.
#[must_use]
pub fn scaled(stated: u32, floor: u32, factor: f64) -> u32 {
    if stated == 0 {
        return 0;
    }
    rounded(f64::from(stated) * factor).max(floor).max(1)
}

/// The nearest whole number, saturating at the ends of its type.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, which is what is wanted; the range is clamped"
)]
fn rounded(value: f64) -> u32 {
    value.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Plan {
    /// Resolves `recipe` for `budget_minutes`. Counts set by override stay as they are.
    ///
    /// # Errors
    /// A budget that is none, or numbers that the budget makes impossible.
    pub fn resolve(
        recipe: &Recipe,
        budget_minutes: f64,
        controls: Controls,
    ) -> Result<Self, RecipeError> {
        if !(budget_minutes > 0.0 && budget_minutes <= MAX_MINUTES) {
            return Err(RecipeError::bad(
                "the budget",
                format!("expected minutes above 0 and at most {MAX_MINUTES}, got {budget_minutes}"),
            ));
        }
        let factor = budget_minutes / recipe.reference_minutes;
        let mut recipe = recipe.clone();
        if controls == Controls::Skip {
            recipe.stages.retain(|stage| !stage.control);
        }
        let mut on_floor = Vec::new();
        for stage in &mut recipe.stages {
            let is_pinned = |field: &str| {
                recipe
                    .pinned
                    .contains(&(stage.name.clone(), field.to_owned()))
            };
            if scale_stage(&mut stage.settings, factor, is_pinned) == Floor::Reached {
                on_floor.push(stage.name.clone());
            }
        }
        recipe.reference_minutes = budget_minutes;
        recipe.check()?;
        Ok(Self {
            recipe,
            budget_minutes,
            on_floor,
        })
    }
}

#[derive(PartialEq)]
enum Floor {
    Reached,
    Clear,
}

fn scale_stage(
    settings: &mut StageSettings,
    factor: f64,
    is_pinned: impl Fn(&str) -> bool,
) -> Floor {
    let before = settings.optim().map(|(_, updates)| updates);
    let mut floor = Floor::Clear;
    for count in settings.scaled_counts() {
        if is_pinned(count.field) {
            continue;
        }
        let value = scaled(*count.value, *count.floor, factor);
        if f64::from(value) > (f64::from(*count.value) * factor).round() {
            floor = Floor::Reached;
        }
        *count.value = value;
    }
    if let (Some(before), Some((optim, after))) = (before, settings.optim())
        && !is_pinned("optim.warmup_steps")
    {
        let share = f64::from(optim.warmup_steps) / f64::from(before.max(1));
        optim.warmup_steps = rounded(share * f64::from(after)).min(after.saturating_sub(1));
    }
    floor
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipe = &self.recipe;
        writeln!(
            f,
            "{}: task {}, seed {}, {} minutes",
            recipe.name, recipe.task.name, recipe.seed, self.budget_minutes
        )?;
        for (name, shape) in &recipe.models {
            writeln!(f, "model {name}: {}", described(shape))?;
        }
        let rows: Vec<[String; 4]> = recipe.stages.iter().map(|stage| self.row(stage)).collect();
        let head = ["stage", "kind", "from", "work"].map(str::to_owned);
        let mut widths = [0; 4];
        for row in std::iter::once(&head).chain(&rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        let [a, b, c, _] = widths;
        for [name, kind, from, work] in std::iter::once(&head).chain(&rows) {
            writeln!(f, "{name:a$}  {kind:b$}  {from:c$}  {work}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn row(&self, stage: &Stage) -> [String; 4] {
        let start = match (&stage.from, &stage.model, &stage.settings) {
            (Some(from), _, _) => from.clone(),
            (None, Some(model), _) => format!("new {model}"),
            (None, None, StageSettings::Eval(_)) => "all before".into(),
            (None, None, _) => String::new(),
        };
        let mut work = work(&stage.settings);
        if let Some(other) = &stage.match_compute {
            work = format!("as many FLOPs as {other}, at most {work}");
        }
        if self.on_floor.contains(&stage.name) {
            work.push_str(" (floor)");
        }
        [
            stage.name.clone(),
            stage.settings.kind().to_owned(),
            start,
            work,
        ]
    }
}

fn described(shape: &ModelShape) -> String {
    let experts = match shape.n_routed_experts {
        0 => "dense".into(),
        routed => format!(
            "{} of {routed} experts + {} shared",
            shape.num_experts_per_tok, shape.n_shared_experts
        ),
    };
    format!(
        "{:?}, {} layers of {}, {} heads, {experts}",
        shape.architecture, shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads
    )
}

/// The work of a stage with its arithmetic spelled out.
fn work(settings: &StageSettings) -> String {
    let tokens = |steps: u32, per_step: u32| {
        let total = u64::from(steps) * u64::from(per_step);
        format!("{steps} steps x {per_step} tokens = {total} tokens")
    };
    let samples = |steps: u32, prompts: u32, each: u32| {
        let total = u128::from(steps) * u128::from(prompts) * u128::from(each);
        format!("{steps} steps x {prompts} prompts x {each} = {total} samples")
    };
    match settings {
        StageSettings::Import(s) => {
            format!(
                "imports {}, used at {} positions",
                s.checkpoint, s.positions
            )
        }
        StageSettings::Pretrain(s) => tokens(s.steps, s.tokens_per_step),
        StageSettings::Sft(s) => tokens(s.steps, s.tokens_per_step),
        StageSettings::Grpo(s) => samples(s.steps, s.prompts_per_step, s.group_size),
        StageSettings::Reject(s) => {
            let total = u64::from(s.prompts) * u64::from(s.samples_per_prompt);
            format!(
                "{} prompts x {} = {total} samples",
                s.prompts, s.samples_per_prompt
            )
        }
        StageSettings::Distill(s) => {
            let parts = [
                (s.sequence_steps > 0).then(|| tokens(s.sequence_steps, s.tokens_per_step)),
                (s.on_policy_steps > 0)
                    .then(|| samples(s.on_policy_steps, s.prompts_per_step, s.samples_per_prompt)),
            ];
            parts
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", then ")
        }
        StageSettings::Eval(s) => format!("{} problems x ({} + greedy)", s.problems, s.samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "
        name = 'small'
        reference_minutes = 8
        model.main.hidden_size = 64
        model.student.architecture = 'llama'
        [[stage]]
        name = 'base'
        kind = 'pretrain'
        model = 'main'
        [[stage]]
        name = 'zero'
        kind = 'grpo'
        from = 'base'
        [[stage]]
        name = 'coin'
        kind = 'grpo'
        from = 'base'
        reward = 'random'
        match_compute = 'zero'
        control = true
        [[stage]]
        name = 'kept'
        kind = 'reject'
        from = 'zero'
        [[stage]]
        name = 'small'
        kind = 'distill'
        model = 'student'
        traces = 'kept'
        on_policy_steps = 0
        [[stage]]
        name = 'scores'
        kind = 'eval'
    ";

    fn plan(minutes: f64, overrides: &[&str]) -> Plan {
        let recipe = Recipe::from_toml(RECIPE, overrides).unwrap();
        Plan::resolve(&recipe, minutes, Controls::Skip).unwrap()
    }

    fn steps(plan: &Plan, name: &str) -> (u32, u32) {
        match &plan.recipe.stage(name).unwrap().settings {
            StageSettings::Pretrain(s) => (s.steps, s.optim.warmup_steps),
            StageSettings::Grpo(s) => (s.steps, s.optim.warmup_steps),
            other => panic!("{}", other.kind()),
        }
    }

    #[test]
    fn counts_follow_the_budget_down_to_their_floors() {
        for (stated, floor, factor, expected) in [
            (100, 10, 1.0, 100),
            (100, 10, 0.5, 50),
            (100, 10, 0.01, 10),
            (100, 0, 1e-9, 1),
            (0, 10, 5.0, 0),
            (3, 1, 0.5, 2),
            (u32::MAX, 1, 2.0, u32::MAX),
        ] {
            assert_eq!(
                scaled(stated, floor, factor),
                expected,
                "{stated} {floor} {factor}"
            );
        }
    }

    #[test]
    fn a_plan_of_its_own_plan_is_the_same() {
        let plan = plan(2.0, &[]);
        assert_eq!(steps(&plan, "base"), (500, 10));
        let text = plan.recipe.to_toml().unwrap();
        let again = Recipe::from_toml::<&str>(&text, &[]).unwrap();
        assert_eq!(
            Plan::resolve(&again, 2.0, Controls::Skip).unwrap().recipe,
            plan.recipe
        );
    }

    #[test]
    fn overrides_are_exact_at_any_budget_and_below_any_floor() {
        let overrides = [
            "base.steps=30",
            "base.warmup_steps=4",
            "zero.learning_rate=1e-5",
        ];
        let plan = plan(80.0, &overrides);
        assert_eq!(steps(&plan, "base"), (30, 4));
        assert_eq!(steps(&plan, "zero"), (400, 100));
    }

    #[test]
    fn a_tiny_budget_stands_on_floors_and_says_so() {
        let plan = plan(0.1, &[]);
        assert_eq!(plan.on_floor, ["base", "zero", "kept", "small"]);
        assert_eq!(steps(&plan, "zero"), (10, 3));
        assert!(plan.to_string().contains("(floor)"));
    }

    #[test]
    fn the_table_spells_out_the_arithmetic() {
        let recipe = Recipe::from_toml::<&str>(RECIPE, &[]).unwrap();
        let plan = Plan::resolve(&recipe, 8.0, Controls::Run).unwrap();
        let expected = "\
small: task countdown, seed 1, 8 minutes
model main: DeepseekV3, 4 layers of 64, 4 heads, 2 of 8 experts + 1 shared
model student: Llama, 3 layers of 96, 4 heads, dense
stage   kind      from         work
base    pretrain  new main     2000 steps x 2800 tokens = 5600000 tokens
zero    grpo      base         40 steps x 32 prompts x 16 = 20480 samples
coin    grpo      base         as many FLOPs as zero, at most 40 steps x 32 prompts x 16 = 20480 samples
kept    reject    zero         512 prompts x 4 = 2048 samples
small   distill   new student  400 steps x 2800 tokens = 1120000 tokens
scores  eval      all before   500 problems x (8 + greedy)
";
        assert_eq!(plan.to_string(), expected);
    }

    #[test]
    fn budgets_that_are_none_are_refused() {
        let recipe = Recipe::from_toml::<&str>(RECIPE, &[]).unwrap();
        for minutes in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Plan::resolve(&recipe, minutes, Controls::Skip).unwrap_err();
            let expected =
                format!("the budget: expected minutes above 0 and at most 5256000, got {minutes}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
