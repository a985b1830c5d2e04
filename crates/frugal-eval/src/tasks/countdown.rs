//! Countdown: reach a target from given numbers with `+ - * /`, each number used once.
//!
//! Question: `7 3 12 make 57`. Answer: `( 7 + 12 ) * 3`. Thinking, between the think tokens: `try`
//! and attempts in a fixed order until one hits, or `guess` and one or two random attempts, after
//! which the answer is the last one whatever it came to. A blurted answer is a random expression.
//! No habit is chosen for being right: a patient search ends at a hit because that is where it
//! ends, and it may give up (`patience`, `give_up`).
//!
//! Reads of [`Level`]: all fields. Reads of [`Mix`]: all fields. How the order of attempts is made
//! is in [`search`], how they are written in [`trace`].

mod probes;
pub mod search;
pub mod trace;

use core::fmt::Write as _;

use frugal_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::grade::countdown::{AnswerForm, grade};
use crate::grade::expression::{Expression, Operation};
use crate::knobs::{Habit, Level, Mix, Order};
use crate::task::{Probe, Problem, Reason, Task, TaskError, Verdict};
use search::{Attempt, operations, random_attempt};
use trace::{BIG, GUESS, NO, TRY, Word, YES};

/// Largest number that the tiny setting has a word for; larger results are `big`. No hit needs
/// one: with numbers to 12 and targets to 60 nothing above 72 leads back to a target.
pub const CEILING: u32 = 99;
/// Most numbers of one problem.
pub const MAX_NUMBERS: usize = 6;
/// How often a problem is drawn before the level is called impossible.
const MAX_DRAWS: u32 = 10_000;
/// Between the numbers and the target.
const MAKE: &str = "make";

/// A problem as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Puzzle {
    /// The numbers in the question's order.
    pub numbers: Vec<i64>,
    /// What they have to make.
    pub target: i64,
    /// Whether the search divides.
    #[serde(default)]
    pub division: bool,
}

impl Puzzle {
    fn key(&self) -> String {
        let mut sorted = self.numbers.clone();
        sorted.sort_unstable();
        let numbers: Vec<String> = sorted.iter().map(ToString::to_string).collect();
        format!("countdown {} = {}", numbers.join(" "), self.target)
    }

    fn problem(&self) -> Result<Problem, TaskError> {
        let mut question = String::new();
        for number in &self.numbers {
            // Writing to a String cannot fail.
            let _ = write!(question, "{number} ");
        }
        let _ = write!(question, "{MAKE} {}", self.target);
        let data = serde_json::to_value(self).map_err(|source| TaskError::ForeignProblem {
            question: question.clone(),
            source,
        })?;
        Ok(Problem {
            question,
            key: self.key(),
            data,
        })
    }

    fn operations(&self) -> &'static [Operation] {
        operations(self.division)
    }
}

/// The task; problems are drawn by the level, or are rows of a data file.
#[derive(Debug, Clone)]
pub struct Countdown {
    name: String,
    ceiling: u32,
    level: Level,
    rows: Vec<Puzzle>,
}

impl Default for Countdown {
    fn default() -> Self {
        Self {
            name: "countdown".into(),
            ceiling: CEILING,
            level: Level::default(),
            rows: vec![],
        }
    }
}

impl Countdown {
    /// The harder setting: problems are the rows of `text` (JSON lines with `numbers` and
    /// `target`) that fit the level, which begins as all of them.
    pub fn from_rows(name: &str, text: &str, ceiling: u32) -> Result<Self, TaskError> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason: String| TaskError::Row {
                task: name.into(),
                row: index + 1,
                reason,
            };
            let mut puzzle: Puzzle =
                serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            puzzle.division = true;
            let allowed = 1..=i64::from(ceiling);
            let n_numbers = puzzle.numbers.len();
            if !(2..=MAX_NUMBERS).contains(&n_numbers) {
                return Err(wrong(format!(
                    "expected 2 to {MAX_NUMBERS} numbers, got {n_numbers}"
                )));
            }
            let values = puzzle.numbers.iter().chain([&puzzle.target]);
            if let Some(value) = values.copied().find(|value| !allowed.contains(value)) {
                return Err(wrong(format!(
                    "expected numbers from 1 to {ceiling}, got {value}"
                )));
            }
            rows.push(puzzle);
        }
        let level = Level {
            size_min: 2,
            size_max: u32::try_from(MAX_NUMBERS).unwrap_or(u32::MAX),
            largest: ceiling,
            target_min: 1,
            target_max: ceiling,
            division: true,
            order: Order::Shuffled,
        };
        Ok(Self {
            name: name.into(),
            ceiling,
            level,
            rows,
        })
    }

    fn check(&self, level: &Level) -> Result<(), TaskError> {
        let most = u32::try_from(MAX_NUMBERS).unwrap_or(u32::MAX);
        let (largest, top) = (level.largest, self.ceiling);
        let least = if self.rows.is_empty() {
            level.size_max
        } else {
            1
        };
        let rules = [
            ("size_min", level.size_min, 2, level.size_max),
            ("size_max", level.size_max, 2, most),
            ("largest", largest, least, top),
            ("target_max", level.target_max, level.target_min, top),
        ];
        for (field, got, low, high) in rules {
            if !(low..=high).contains(&got) {
                return Err(TaskError::Knob {
                    task: self.name.clone(),
                    field,
                    got: got.to_string(),
                    expected: format!("{low} to {high}"),
                });
            }
        }
        Ok(())
    }

    /// Different numbers from 1 to the level's largest, and a target they reach; nothing if the
    /// draw reaches none in range.
    fn draw(level: &Level, rng: &mut Rng) -> Option<Puzzle> {
        let numbers = draw_numbers(level, rng);
        let range = i64::from(level.target_min)..=i64::from(level.target_max);
        let operations = operations(level.division);
        let target = if numbers.len() <= 3 {
            // Every reachable target is equally likely, however many attempts reach it.
            let attempts = search::search(&numbers, operations, None, usize::MAX);
            let mut values: Vec<i64> = attempts.iter().map(|attempt| attempt.value).collect();
            values.sort_unstable();
            values.dedup();
            values.retain(|value| range.contains(value));
            rng.choose(&values).copied()
        } else {
            Some(random_attempt(&numbers, operations, rng).value)
        };
        let target = target.filter(|target| range.contains(target))?;
        Some(Puzzle {
            numbers,
            target,
            division: level.division,
        })
    }

    fn row(&self, level: &Level, rng: &mut Rng) -> Option<Puzzle> {
        let row = rng.choose(&self.rows)?;
        let size = u32::try_from(row.numbers.len()).ok()?;
        let fits = (level.size_min..=level.size_max).contains(&size)
            && row
                .numbers
                .iter()
                .all(|number| *number <= i64::from(level.largest))
            && (i64::from(level.target_min)..=i64::from(level.target_max)).contains(&row.target);
        fits.then(|| Puzzle {
            division: level.division,
            ..row.clone()
        })
    }

    fn words_of(&self, attempts: &[Attempt], puzzle: &Puzzle, mix: &Mix) -> Vec<Vec<Word>> {
        trace::write(attempts, puzzle.target, self.ceiling, mix.form)
    }

    /// A whole response: the opening, the attempts, and the last attempt as the answer.
    fn response(&self, opening: &str, attempts: &[Attempt], puzzle: &Puzzle, mix: &Mix) -> String {
        let mut text = format!("<think> {opening}");
        append(&mut text, &self.words_of(attempts, puzzle, mix));
        text.push_str(" </think> ");
        text.push_str(attempts.last().map_or("", |attempt| &attempt.expression));
        text
    }

    fn patient(puzzle: &Puzzle, rng: &mut Rng, mix: &Mix) -> Vec<Attempt> {
        let patience = usize::try_from(mix.patience).unwrap_or(usize::MAX);
        let operations = puzzle.operations();
        let mut attempts =
            search::search(&puzzle.numbers, operations, Some(puzzle.target), patience);
        if mix.give_up > 0.0 {
            // The hit itself is no reason to give up, so the last attempt draws nothing.
            let n_failures = attempts.len().saturating_sub(1);
            if let Some(at) = (0..n_failures).find(|_| rng.uniform() < mix.give_up) {
                attempts.truncate(at + 1);
            }
        }
        attempts
    }

    fn hasty(puzzle: &Puzzle, rng: &mut Rng, mix: &Mix) -> Vec<Attempt> {
        let n_attempts = 1 + rng.below(mix.hasty_steps);
        let mut attempts = Vec::new();
        for _ in 0..n_attempts {
            attempts.push(random_attempt(&puzzle.numbers, puzzle.operations(), rng));
            if attempts
                .last()
                .is_some_and(|attempt| attempt.value == puzzle.target)
            {
                break;
            }
        }
        attempts
    }

    /// One fact of arithmetic, as a step is written, from numbers like those of the problems.
    fn fact(&self, rng: &mut Rng) -> String {
        let level = Level {
            size_min: 3,
            size_max: 3,
            ..self.level.clone()
        };
        let numbers = draw_numbers(&level, rng);
        let attempt = random_attempt(&numbers, operations(self.level.division), rng);
        let top = i64::from(self.ceiling);
        // A fact about `big` is none, and the first step has always two written numbers.
        let is_fact = |step: &&search::Step| step.left <= top && step.right <= top;
        let steps: Vec<_> = attempt.steps.iter().filter(is_fact).collect();
        rng.choose(&steps).map_or_else(String::new, |step| {
            let spell = |value| trace::spell(value, self.ceiling);
            let (left, right) = (spell(step.left), spell(step.right));
            format!(
                "{left} {} {right} {}",
                step.operation.sign(),
                spell(step.value)
            )
        })
    }

    /// One comparison, as an attempt ends: equal in half of the cases.
    fn comparison(&self, rng: &mut Rng) -> String {
        let lowest = self.level.target_min;
        let span = (self.level.target_max - lowest).saturating_add(1);
        let target = lowest + rng.below(span);
        if rng.below(2) == 0 {
            return format!("{target} {target} {YES}");
        }
        let other = rng.below(self.ceiling + 2);
        let other = if other == target { other + 1 } else { other };
        format!(
            "{} {target} {NO}",
            trace::spell(i64::from(other), self.ceiling)
        )
    }
}

/// Different numbers from 1 to the level's largest, in the level's order.
fn draw_numbers(level: &Level, rng: &mut Rng) -> Vec<i64> {
    let size = level.size_min + rng.below((level.size_max - level.size_min).saturating_add(1));
    let mut numbers: Vec<i64> = Vec::new();
    while numbers.len() < usize::try_from(size.min(level.largest)).unwrap_or(0) {
        let number = i64::from(1 + rng.below(level.largest));
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    if level.order == Order::Descending {
        numbers.sort_unstable_by(|a, b| b.cmp(a));
    }
    numbers
}

fn append<'a>(text: &mut String, words: impl IntoIterator<Item = &'a Vec<Word>>) {
    for word in words.into_iter().flatten() {
        text.push(' ');
        text.push_str(&word.text);
    }
}

impl Task for Countdown {
    fn name(&self) -> &str {
        &self.name
    }

    fn instruction(&self) -> &'static str {
        "Before the word make are some numbers, after it is a target. Write an arithmetic \
         expression with + - * / and brackets that uses each number exactly once and equals the \
         target. Reply with the expression alone."
    }

    fn words(&self) -> Vec<String> {
        let signs = [
            "+", "-", "*", "/", "(", ")", ",", MAKE, BIG, YES, NO, TRY, GUESS,
        ];
        let numbers = (0..=self.ceiling).map(|number| number.to_string());
        numbers
            .chain(signs.into_iter().map(str::to_owned))
            .collect()
    }

    fn level(&self) -> Level {
        self.level.clone()
    }

    fn mix(&self) -> Mix {
        Mix::default()
    }

    fn problem(&self, rng: &mut Rng, level: &Level) -> Result<Problem, TaskError> {
        self.check(level)?;
        for _ in 0..MAX_DRAWS {
            let puzzle = if self.rows.is_empty() {
                Self::draw(level, rng)
            } else {
                self.row(level, rng)
            };
            if let Some(puzzle) = puzzle {
                return puzzle.problem();
            }
        }
        Err(TaskError::NoProblem {
            task: self.name.clone(),
            draws: MAX_DRAWS,
        })
    }

    fn parse(&self, question: &str) -> Result<Problem, TaskError> {
        let wrong = || TaskError::Question {
            task: self.name.clone(),
            expected: format!("7 3 12 {MAKE} 57 (numbers from 1 to {})", self.ceiling),
            got: question.chars().take(80).collect(),
        };
        let number = |word: &str| {
            let value: i64 = word.parse().map_err(|_| wrong())?;
            if (1..=i64::from(self.ceiling)).contains(&value) {
                Ok(value)
            } else {
                Err(wrong())
            }
        };
        let (numbers, target) = question.split_once(MAKE).ok_or_else(wrong)?;
        let numbers: Vec<i64> = numbers
            .split_whitespace()
            .map(number)
            .collect::<Result<_, _>>()?;
        if !(2..=MAX_NUMBERS).contains(&numbers.len()) {
            return Err(wrong());
        }
        let target = number(target.trim())?;
        Puzzle {
            numbers,
            target,
            division: self.level.division,
        }
        .problem()
    }

    fn habit(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<String, TaskError> {
        let puzzle: Puzzle = problem.read()?;
        Ok(match mix.draw(rng) {
            Habit::Blurt => random_attempt(&puzzle.numbers, puzzle.operations(), rng).expression,
            Habit::Hasty => {
                let attempts = Self::hasty(&puzzle, rng, mix);
                self.response(GUESS, &attempts, &puzzle, mix)
            }
            Habit::Patient => {
                let attempts = Self::patient(&puzzle, rng, mix);
                self.response(TRY, &attempts, &puzzle, mix)
            }
        })
    }

    fn hopeless(
        &self,
        problem: &Problem,
        rng: &mut Rng,
        mix: &Mix,
    ) -> Result<Option<(Problem, String)>, TaskError> {
        let solvable: Puzzle = problem.read()?;
        let reached = search::search(&solvable.numbers, solvable.operations(), None, usize::MAX);
        let is_missed = |target: &i64| reached.iter().all(|attempt| attempt.value != *target);
        // Targets as small as those of the problems that have a solution.
        let largest = i64::from(self.level.target_max);
        let missed: Vec<i64> = (1..=largest).filter(is_missed).collect();
        let Some(target) = rng.choose(&missed).copied() else {
            return Ok(None);
        };
        let puzzle = Puzzle { target, ..solvable };
        let attempts = Self::patient(&puzzle, rng, mix);
        let response = self.response(TRY, &attempts, &puzzle, mix);
        Ok(Some((puzzle.problem()?, response)))
    }

    fn drill(&self, rng: &mut Rng, mix: &Mix) -> Option<String> {
        let one = |_| {
            if rng.uniform() < mix.compare {
                self.comparison(rng)
            } else {
                self.fact(rng)
            }
        };
        let facts: Vec<String> = (0..mix.facts).map(one).collect();
        Some(facts.join(" , "))
    }

    fn grade(&self, problem: &Problem, answer: &str) -> Verdict {
        match problem.read::<Puzzle>() {
            Ok(puzzle) => grade(&puzzle.numbers, puzzle.target, answer, AnswerForm::Bare),
            Err(_) => Verdict::new(Reason::ForeignProblem),
        }
    }

    fn canonical(&self, _problem: &Problem, answer: &str) -> Option<String> {
        Expression::parse(answer)?.canonical()
    }

    fn opening(&self) -> &'static str {
        "<think> try"
    }

    fn self_check_words(&self) -> &'static [&'static str] {
        &["no"]
    }

    fn self_checks(&self, thinking: &[&str]) -> usize {
        thinking.iter().filter(|word| **word == NO).count()
    }

    fn expected(&self, problem: &Problem, thinking: &[&str]) -> Vec<bool> {
        match problem.read::<Puzzle>() {
            Ok(puzzle) => trace::expected(thinking, &trace::spell(puzzle.target, self.ceiling)),
            Err(_) => vec![false; thinking.len()],
        }
    }

    fn probes(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<Vec<Probe>, TaskError> {
        let puzzle: Puzzle = problem.read()?;
        let patience = usize::try_from(mix.patience).unwrap_or(usize::MAX);
        let attempts = search::search(
            &puzzle.numbers,
            puzzle.operations(),
            Some(puzzle.target),
            patience,
        );
        let written = self.words_of(&attempts, &puzzle, mix);
        let start = format!("{} {}", problem.question, self.opening());
        let hit = attempts.last().filter(|last| last.value == puzzle.target);
        Ok(probes::of_trace(&start, &written, hit, rng))
    }
}

#[cfg(test)]
mod tests;
