#![expect(
    clippy::float_cmp,
    clippy::too_many_lines,
    reason = "values must arrive exactly; the tables of refusals are long but flat"
)]

use proptest::prelude::*;

use super::*;

const RECIPE: &str = r#"
name = "small"
seed = 7
reference_minutes = 4
[task]
name = "countdown"
difficulty = { numbers = 3, target = [1, 60] }
[model.main]
hidden_size = 64
n_routed_experts = 8
n_group = 4
topk_group = 2
num_experts_per_tok = 2
[model.student]
architecture = "qwen3"
[[stage]]
name = "base"
kind = "pretrain"
model = "main"
optim.learning_rate = 1e-3
[[stage]]
name = "r1-zero"
kind = "grpo"
from = "base"
preset = "dapo"
clip_high = 0.5
[[stage]]
name = "kept"
kind = "reject"
from = "r1-zero"
[[stage]]
name = "sft"
kind = "sft"
from = "base"
traces = "kept"
[[stage]]
name = "distilled"
kind = "distill"
model = "student"
teacher = "sft"
traces = "kept"
[[stage]]
name = "scores"
kind = "eval"
"#;

fn read(text: &str) -> Recipe {
    Recipe::from_toml::<&str>(text, &[]).unwrap()
}

fn refusal(text: &str, overrides: &[&str]) -> String {
    Recipe::from_toml(text, overrides).unwrap_err().to_string()
}

fn grpo<'a>(recipe: &'a Recipe, name: &str) -> &'a GrpoSettings {
    match &recipe.stage(name).unwrap().settings {
        StageSettings::Grpo(settings) => settings,
        other => panic!("{name} is {}", other.kind()),
    }
}

#[test]
fn written_fields_lie_over_presets_and_presets_over_defaults() {
    let recipe = read(RECIPE);
    let rl = grpo(&recipe, "r1-zero");
    assert_eq!((rl.clip_low, rl.clip_high), (0.2, 0.5));
    assert_eq!(
        (rl.normaliser, rl.overlong),
        (Normaliser::PerToken, Overlong::Penalty)
    );
    assert_eq!(rl.group_size, GrpoSettings::default().group_size);
    let StageSettings::Pretrain(base) = &recipe.stages[0].settings else {
        panic!()
    };
    // A partly written section keeps the rest of its stage's defaults.
    assert_eq!(
        base.optim,
        OptimSettings {
            learning_rate: 1e-3,
            ..OptimSettings::pretrain()
        }
    );
    assert_eq!(recipe.models["student"].n_routed_experts, 0);
    assert_eq!(recipe.reference_minutes, 4.0);
    let (name, _) = recipe.model_of(recipe.stage("sft").unwrap()).unwrap();
    assert_eq!(name, "main");
}

#[test]
fn a_written_back_recipe_reads_as_the_same() {
    let recipe = read(RECIPE);
    let text = recipe.to_toml().unwrap();
    assert_eq!(read(&text), recipe, "{text}");
    assert_eq!(read(&text).to_toml().unwrap(), text);
    assert!(text.starts_with("name = \"small\"\n"), "{text}");
}

#[test]
fn unknown_fields_are_named_with_their_stage_and_nearest_relative() {
    for (from, to, expected) in [
        (
            "optim.learning_rate = 1e-3",
            "learning_rat = 1e-3",
            "stage `base` has no field `learning_rat`; the nearest known field is \
             `optim.learning_rate`",
        ),
        (
            "clip_high = 0.5",
            "group_sise = 4",
            "stage `r1-zero` has no field `group_sise`; the nearest known field is `group_size`",
        ),
        (
            "optim.learning_rate = 1e-3",
            "optim.learnig_rate = 1e-3",
            "stage `base` has no field `optim.learnig_rate`; the nearest known field is \
             `optim.learning_rate`",
        ),
        (
            "hidden_size = 64",
            "hiden_size = 64",
            "model `main` has no field `hiden_size`; the nearest known field is `hidden_size`",
        ),
        (
            "seed = 7",
            "sed = 7",
            "the recipe has no field `sed`; the nearest known field is `seed`",
        ),
        (
            "[task]",
            "[task]\ndificulty = 3",
            "the recipe has no field `task.dificulty`; the nearest known field is `task.difficulty`",
        ),
    ] {
        assert!(RECIPE.contains(from));
        assert_eq!(refusal(&RECIPE.replacen(from, to, 1), &[]), expected);
    }
}

#[test]
fn values_that_do_not_fit_are_refused_in_a_sentence() {
    for (from, to, expected) in [
        (
            "seed = 7",
            "seed = -7",
            "the recipe, field `seed`: invalid value: integer `-7`, expected u64",
        ),
        (
            "preset = \"dapo\"",
            "preset = \"dap\"",
            "stage `r1-zero`, field `preset`: unknown variant `dap`, expected one of `frugal`, \
             `grpo`, `dr_grpo`, `dapo`, `gspo`, `cispo`, `reinforce`, `deepseek_v32`",
        ),
        (
            "clip_high = 0.5",
            "clip_high = \"wide\"",
            "field `clip_high` of stage `r1-zero` expects a number, got string \"wide\"",
        ),
        (
            "kind = \"eval\"",
            "kind = \"evaluate\"",
            "stage `scores`: expected a kind of import, pretrain, sft, grpo, reject, distill or \
             eval, got `evaluate`",
        ),
        (
            "kind = \"eval\"",
            "",
            "stage `scores`: expected a kind of import, pretrain, sft, grpo, reject, distill or \
             eval, got none",
        ),
        (
            "traces = \"kept\"",
            "traces = \"base\"",
            "stage `sft`: traces names `base`, expected one of kept",
        ),
        (
            "model = \"main\"",
            "",
            "stage `base`: a pretrain stage needs `model`, expected one of main, student, got none",
        ),
        (
            "from = \"r1-zero\"",
            "from = \"sft\"",
            "stage `kept`: from names `sft`, expected one of base, r1-zero",
        ),
        (
            "name = \"kept\"",
            "name = \"base\"",
            "stage `base`: expected a name of its own, but an earlier stage has it",
        ),
        (
            "name = \"kept\"",
            "name = \"run\"",
            "stage `run`: expected a name that is not the name of a section",
        ),
        (
            "name = \"kept\"",
            "name = \"../up\"",
            "stage number 3: expected a name of at most 48 lower-case letters, digits, - and _, \
             got `../up`",
        ),
        (
            "clip_high = 0.5",
            "group_size = 1",
            "stage `r1-zero`: group_size must be 2 or more, since a sample is judged against the \
             mean of its group, got 1",
        ),
        (
            "clip_high = 0.5",
            "updates_per_batch = 5",
            "stage `r1-zero`: updates_per_batch 5 must divide prompts_per_step: 32 prompts x 16 \
             samples = 512 samples per step, and 32 prompts / 5 updates is not whole",
        ),
        (
            "clip_high = 0.5",
            "group_size = 65536",
            "stage `r1-zero`: prompts_per_step x group_size = 32 x 65536 = 2097152 samples, \
             expected at most 1048576",
        ),
        (
            "clip_high = 0.5",
            "max_new_tokens = 512",
            "stage `r1-zero`: max_new_tokens must be below the max_position_embeddings 512 of \
             model `main`, since the prompt needs room, got 512",
        ),
        (
            "optim.learning_rate = 1e-3",
            "optim.warmup_steps = 2000",
            "stage `base`: optim.warmup_steps must be below the 2000 optimiser steps of the stage, \
             got 2000",
        ),
        (
            "kind = \"reject\"",
            "kind = \"reject\"\ncontrol = true",
            "stage `sft`: leans on `kept`, which only runs when controls are asked for",
        ),
        (
            "[model.main]",
            "[model]\nmain = 3\n[model.other]",
            "field `model.main` of the recipe: expected a section [model.NAME], got the value 3",
        ),
    ] {
        assert!(RECIPE.contains(from), "{from}");
        assert_eq!(
            refusal(&RECIPE.replacen(from, to, 1), &[]),
            expected,
            "{to}"
        );
    }
}

#[test]
fn impossible_sizes_are_refused_with_the_arithmetic() {
    for (set, expected) in [
        (
            "qk_rope_head_dim=15",
            "qk_rope_head_dim must be even, since rotation takes pairs, got 15",
        ),
        (
            "n_group=3",
            "n_routed_experts 8 do not divide into n_group 3 groups",
        ),
        (
            "num_experts_per_tok=5",
            "num_experts_per_tok must be 1 to 4 (8 experts / 4 groups x 2 groups in reach), got 5",
        ),
        (
            "n_group=8",
            "a group is scored by its two best experts, but 8 experts / 8 groups = 1",
        ),
        ("topk_group=5", "topk_group must be 1 to 4, got 5"),
        ("kv_lora_rank=0", "kv_lora_rank must be 1 to 1048576, got 0"),
        (
            "num_key_value_heads=2",
            "under MLA num_key_value_heads is num_attention_heads, expected 4, got 2",
        ),
        ("rope_theta=nan", "rope_theta must be above 0, got NaN"),
    ] {
        let message = refusal(RECIPE, &[&format!("model.main.{set}")]);
        assert_eq!(message, format!("model `main`: {expected}"));
    }
    for (set, expected) in [
        (
            "num_key_value_heads=3",
            "num_attention_heads 4 is not a multiple of num_key_value_heads 3",
        ),
        (
            "hidden_size=98",
            "hidden_size 98 does not divide into 4 heads; set head_dim or change one",
        ),
        (
            "head_dim=33",
            "head_dim must be even, since rotation takes pairs, got 33",
        ),
        (
            "n_routed_experts=4",
            "this architecture has no n_routed_experts, expected 0, got 4",
        ),
    ] {
        let message = refusal(RECIPE, &[&format!("model.student.{set}")]);
        assert_eq!(message, format!("model `student`: {expected}"));
    }
}

#[test]
fn an_imported_checkpoint_is_a_start_and_limits_positions() {
    const IMPORT: &str = r#"
name = "import"
[model.student]
architecture = "qwen3"
[[stage]]
name = "start"
kind = "import"
checkpoint = "models/tiny"
positions = 300
[[stage]]
name = "tuned"
kind = "sft"
from = "start"
[[stage]]
name = "rl"
kind = "grpo"
from = "tuned"
preset = "deepseek_v32"
[[stage]]
name = "small"
kind = "distill"
model = "student"
teacher = "rl"
sequence_steps = 0
optim.warmup_steps = 2
"#;
    let recipe = read(IMPORT);
    assert_eq!(read(&recipe.to_toml().unwrap()), recipe);
    assert_eq!(recipe.n_positions(), 300);
    let root = |name| &recipe.root_of(recipe.stage(name).unwrap()).unwrap().name;
    assert_eq!(
        [root("rl"), root("start"), root("small")],
        ["start", "start", "small"]
    );
    assert!(recipe.model_of(recipe.stage("rl").unwrap()).is_none());
    let rl = grpo(&recipe, "rl");
    assert_eq!((rl.kl_weight, rl.stale_limit), (KlWeight::Ratio, 0.5));
    let plan = crate::plan::Plan::resolve(&recipe, 8.0, crate::plan::Controls::Skip).unwrap();
    let row = "imports models/tiny, used at 300 positions";
    assert!(plan.to_string().contains(row), "{plan}");
    let second = "name = \"tuned\"\nkind = \"import\"\ncheckpoint = \"other\"";
    for (from, to, expected) in [
        (
            "checkpoint = \"models/tiny\"",
            "",
            "stage `start`: expected a checkpoint to import (a folder, a GGUF file or a model's \
             name), got none",
        ),
        (
            "name = \"tuned\"\nkind = \"sft\"\nfrom = \"start\"",
            second,
            "stage `tuned`: a run starts from one published checkpoint, but stage `start` imports \
             one already",
        ),
        (
            "positions = 300",
            "positions = 256",
            "stage `rl`: max_new_tokens must be below the positions 256 of stage `start`, since \
             the prompt needs room, got 256",
        ),
        (
            "positions = 300",
            "positions = 300\nmodel = \"student\"",
            "stage `start`: an import stage takes no `model`, got `student`",
        ),
        (
            "preset = \"deepseek_v32\"",
            "match_compute = \"start\"",
            "stage `rl`: match_compute names `start`, expected one of tuned",
        ),
    ] {
        assert_eq!(refusal(&IMPORT.replacen(from, to, 1), &[]), expected);
    }
}

#[test]
fn overrides_change_any_field() {
    let recipe = Recipe::from_toml(
        RECIPE,
        &[
            "base.learning_rate = 5e-4",
            "base.optim.beta2=0.98",
            "r1-zero.preset=gspo",
            "r1-zero.drop_groups_without_signal=true",
            "r1-zero.level=token",
            "model.main.hidden_size=96",
            "task.difficulty.numbers=4",
            "task.name=cups",
            "base.control=false",
            "seed=3",
            "run.currency=EUR",
            "reference_minutes=2",
        ],
    )
    .unwrap();
    let StageSettings::Pretrain(base) = &recipe.stages[0].settings else {
        panic!()
    };
    assert_eq!((base.optim.learning_rate, base.optim.beta2), (5e-4, 0.98));
    let rl = grpo(&recipe, "r1-zero");
    assert_eq!(
        (rl.clip_low, rl.clip_high, rl.preset),
        (3e-4, 0.5, Preset::Gspo)
    );
    assert!(rl.drop_groups_without_signal);
    assert_eq!(rl.level, Level::Token);
    assert_eq!(recipe.models["main"].hidden_size, 96);
    assert_eq!(recipe.task.difficulty["numbers"], Value::Integer(4));
    assert_eq!(recipe.task.name, "cups");
    assert_eq!((recipe.seed, recipe.run.currency.as_str()), (3, "EUR"));
    assert!(
        recipe
            .pinned
            .contains(&("base".into(), "optim.learning_rate".into()))
    );
}

#[test]
fn overrides_that_fit_nothing_are_refused() {
    for (text, expected) in [
        (
            "steps",
            "override `steps`: expected stage.field=value, got no `=`",
        ),
        (
            "base..steps=1",
            "override `base..steps=1`: expected stage.field before the `=`, got an empty name",
        ),
        (
            "bas.steps=1",
            "override `bas.steps=1`: there is no stage or section `bas`, expected one of base, \
             r1-zero, kept, sft, distilled, scores, about, model, name, reference_minutes, run, \
             seed, task",
        ),
        (
            "base.setps=1",
            "stage `base` has no field `setps`; the nearest known field is `steps`",
        ),
        (
            "base.optim.rate=1",
            "stage `base` has no field `optim.rate`; the nearest known field is `optim.learning_rate`",
        ),
        (
            "base.steps=many",
            "field `steps` of stage `base` expects a whole number, got string \"many\"",
        ),
        (
            "base.steps=1\nmin_steps=2",
            "field `steps` of stage `base` expects a whole number, got string \"1\\nmin_steps=2\"",
        ),
        (
            "base.steps=0.5",
            "field `steps` of stage `base` expects a whole number, got number 0.5",
        ),
        (
            "base.steps.more=1",
            "stage `base` has no field `steps.more`; the nearest known field is `steps`",
        ),
        (
            "base.kind=sft",
            "override `base.kind=sft`: expected a field of stage `base` other than its name and \
             kind",
        ),
        (
            "model.big.hidden_size=1",
            "override `model.big.hidden_size=1`: the recipe has no model `big`",
        ),
        (
            "model.hidden_size=1",
            "override `model.hidden_size=1`: expected model.NAME.field=value or NAME.field=value of a stage",
        ),
        (
            "task.difficulty.numbers=four",
            "field `task.difficulty.numbers` of the recipe expects a whole number, got string \"four\"",
        ),
    ] {
        assert_eq!(refusal(RECIPE, &[text]), expected, "{text}");
    }
}

#[test]
fn a_task_reads_its_knobs_as_strictly() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Knobs {
        numbers: u32,
        largest: u32,
        share: f64,
    }
    let defaults = Knobs {
        numbers: 3,
        largest: 12,
        share: 0.5,
    };
    let task: TaskSettings =
        toml::from_str("name = \"countdown\"\ndifficulty = { numbers = 4, share = 1 }").unwrap();
    let over = "numbers = 6".parse().unwrap();
    assert_eq!(
        task.difficulty(&defaults, &over).unwrap(),
        Knobs {
            numbers: 6,
            largest: 12,
            share: 1.0
        }
    );
    let error = task
        .difficulty(&defaults, &"number = 6".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "task.difficulty has no field `number`; the nearest known field is `numbers`"
    );
    assert_eq!(task.mix(&defaults).unwrap(), defaults);
}

#[test]
fn hostile_texts_are_refused() {
    let long = "#".repeat(MAX_RECIPE_BYTES + 1);
    assert_eq!(
        refusal(&long, &[]),
        "the recipe has 262145 bytes, expected at most 262144"
    );
    let message = refusal("name = \"a\"\nseed = = 3", &[]);
    assert!(
        message.starts_with("the recipe is not valid TOML: line 2: "),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(
        refusal("name = \"a\"", &[]),
        "the recipe: expected at least one [[stage]], got none"
    );
    assert_eq!(
        refusal("", &[]),
        "the recipe: expected a name of at most 48 lower-case letters, digits, - and _, got ``"
    );
    let deep = format!("name = {}", "[".repeat(100_000));
    assert!(Recipe::from_toml::<&str>(&deep, &[]).is_err());
}

#[test]
fn a_recipe_file_is_read_up_to_its_limit() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("small.toml");
    std::fs::write(&path, RECIPE).unwrap();
    assert_eq!(Recipe::from_file::<&str>(&path, &[]).unwrap(), read(RECIPE));
    std::fs::write(&path, "#".repeat(MAX_RECIPE_BYTES + 1)).unwrap();
    let error = Recipe::from_file::<&str>(&path, &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("expected at most 262144 bytes, got more"),
        "{error}"
    );
    let error = Recipe::from_file::<&str>(&home.path().join("no"), &[])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot read "), "{error}");
}

#[test]
fn presets_are_the_published_ones() {
    type Row = (
        Preset,
        f64,
        f64,
        f64,
        u32,
        Advantage,
        Normaliser,
        Level,
        Surrogate,
        bool,
    );
    let rows: [Row; 8] = [
        (
            Preset::Frugal,
            0.2,
            0.28,
            0.0,
            0,
            Advantage::Center,
            Normaliser::TokenBudget,
            Level::Token,
            Surrogate::Clip,
            true,
        ),
        (
            Preset::Grpo,
            10.0,
            10.0,
            1e-3,
            400,
            Advantage::Std,
            Normaliser::PerSequence,
            Level::Token,
            Surrogate::Clip,
            false,
        ),
        (
            Preset::DrGrpo,
            0.2,
            0.2,
            0.0,
            0,
            Advantage::Center,
            Normaliser::TokenBudget,
            Level::Token,
            Surrogate::Clip,
            false,
        ),
        (
            Preset::Dapo,
            0.2,
            0.28,
            0.0,
            0,
            Advantage::Std,
            Normaliser::PerToken,
            Level::Token,
            Surrogate::Clip,
            true,
        ),
        (
            Preset::Gspo,
            3e-4,
            4e-4,
            0.0,
            0,
            Advantage::Std,
            Normaliser::PerSequence,
            Level::Sequence,
            Surrogate::Clip,
            false,
        ),
        (
            Preset::Cispo,
            1.0,
            5.0,
            0.0,
            0,
            Advantage::Std,
            Normaliser::PerToken,
            Level::Token,
            Surrogate::Weight,
            false,
        ),
        (
            Preset::Reinforce,
            0.2,
            0.2,
            0.0,
            0,
            Advantage::Center,
            Normaliser::PerToken,
            Level::Token,
            Surrogate::Reinforce,
            false,
        ),
        (
            Preset::DeepseekV32,
            0.2,
            0.2,
            1e-3,
            0,
            Advantage::Center,
            Normaliser::PerSequence,
            Level::Token,
            Surrogate::Clip,
            false,
        ),
    ];
    for (preset, low, high, beta, refresh, advantage, normaliser, level, surrogate, drop) in rows {
        let s = GrpoSettings::with_preset(preset);
        assert_eq!(
            (s.clip_low, s.clip_high, s.kl_beta),
            (low, high, beta),
            "{preset:?}"
        );
        assert_eq!(s.reference_refresh_steps, refresh, "{preset:?}");
        assert_eq!(
            (s.advantage, s.normaliser, s.level),
            (advantage, normaliser, level),
            "{preset:?}"
        );
        assert_eq!(
            (s.surrogate, s.drop_groups_without_signal),
            (surrogate, drop),
            "{preset:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_override_is_applied_or_refused(text in "(base|r1-zero|task|model\\.main|run|[a-z.]{0,9})\\.?[a-z_.]{0,14}=?.{0,20}") {
        // Whatever the text, no panic, and an accepted one still writes back.
        if let Ok(recipe) = Recipe::from_toml(RECIPE, &[text]) {
            prop_assert!(recipe.to_toml().is_ok());
        }
    }

    #[test]
    fn numbers_arrive_exactly(steps in 200_u32..1_000_000, rate in 1e-12_f64..10.0) {
        let overrides = [format!("base.steps={steps}"), format!("base.learning_rate={rate:?}")];
        let recipe = Recipe::from_toml(RECIPE, &overrides).unwrap();
        let back = Recipe::from_toml::<&str>(&recipe.to_toml().unwrap(), &[]).unwrap();
        for recipe in [recipe, back] {
            let StageSettings::Pretrain(base) = &recipe.stages[0].settings else { panic!() };
            prop_assert_eq!(base.steps, steps);
            prop_assert_eq!(base.optim.learning_rate.to_bits(), rate.to_bits());
        }
    }

    #[test]
    fn whole_numbers_are_accepted_for_fractions(value in 1_u32..1000) {
        let recipe = Recipe::from_toml(RECIPE, &[format!("reference_minutes={value}")]).unwrap();
        prop_assert!((recipe.reference_minutes - f64::from(value)).abs() < f64::EPSILON);
    }
}

#[test]
fn no_kind_has_a_field_of_the_head() {
    let head = schema::table_of(&stage::StageHead::default(), "head").unwrap();
    for kind in [
        "import", "pretrain", "sft", "grpo", "reject", "distill", "eval",
    ] {
        let written = format!("kind = \"{kind}\"").parse().unwrap();
        let settings = StageSettings::defaults(&written, kind).unwrap();
        let fields = schema::table_of(&settings, kind).unwrap();
        let twice = |key: &&String| head.contains_key(*key) || *key == "difficulty";
        assert_eq!(fields.keys().find(twice), None, "{kind}");
        assert_eq!(settings.kind(), kind);
    }
}
