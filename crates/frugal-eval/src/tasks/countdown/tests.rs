//! Laws of the countdown task: what the base corpus may and may not know.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::fixture;
use crate::knobs::Form;

fn problem(text: &str) -> Problem {
    Countdown::default().parse(text).unwrap()
}

fn answer_of(text: &str) -> &str {
    text.split_once("</think> ")
        .map_or(text, |(_, answer)| answer)
}

#[test]
fn every_word_of_every_line_is_in_the_word_list() {
    let task = Countdown::default();
    let words: BTreeSet<String> = task.words().into_iter().collect();
    assert_eq!(words.len(), task.words().len());
    let mut rng = Rng::derive(&[1]);
    for form in [Form::Spaced, Form::Tight, Form::Shared] {
        let mix = Mix {
            form,
            patient: 0.5,
            hasty: 0.3,
            ..task.mix()
        };
        for _ in 0..500 {
            let problem = task.problem(&mut rng, &task.level()).unwrap();
            let habit = task.habit(&problem, &mut rng, &mix).unwrap();
            let drill = task.drill(&mut rng, &mix).unwrap();
            let line = format!("{} {habit} {drill}", problem.question);
            for word in line
                .split(' ')
                .filter(|word| !["<think>", "</think>"].contains(word))
            {
                assert!(words.contains(word), "{word:?} in {line}");
            }
            let (thinking, _) = habit.split_once(" </think>").unwrap_or(("", ""));
            let thinking: Vec<&str> = thinking.split(' ').skip(1).collect();
            assert!(
                task.expected(&problem, &thinking).iter().all(|mark| *mark),
                "{habit}"
            );
        }
    }
}

#[test]
fn patience_pays_and_guessing_does_not() {
    let task = Countdown::default();
    let mut rng = Rng::derive(&[2]);
    let only = |blurt, hasty, patient| Mix {
        blurt,
        hasty,
        patient,
        ..task.mix()
    };
    let mut rates = BTreeMap::new();
    let habits = [
        ("blurt", only(1.0, 0.0, 0.0)),
        ("hasty", only(0.0, 1.0, 0.0)),
        ("patient", only(0.0, 0.0, 1.0)),
        (
            "tired",
            Mix {
                give_up: 0.2,
                ..only(0.0, 0.0, 1.0)
            },
        ),
        ("base", task.mix()),
    ];
    for (name, mix) in habits {
        let n = 1_500;
        let mut right = 0;
        for _ in 0..n {
            let problem = task.problem(&mut rng, &task.level()).unwrap();
            let habit = task.habit(&problem, &mut rng, &mix).unwrap();
            let verdict = task.grade(&problem, answer_of(&habit));
            assert!(verdict.is_well_formed(), "{habit}");
            right += u32::from(verdict.correct);
        }
        rates.insert(name, f64::from(right) / f64::from(n));
    }
    // The mix must leave the base between 5 % and 30 %, and thinking able to reach 90 %.
    assert!(rates["blurt"] < 0.12 && rates["hasty"] < 0.2, "{rates:?}");
    assert!((rates["patient"] - 1.0).abs() < 1e-9, "{rates:?}");
    assert!(rates["tired"] > 0.2 && rates["tired"] < 0.8, "{rates:?}");
    assert!(rates["base"] > 0.12 && rates["base"] < 0.28, "{rates:?}");
}

#[test]
fn patient_traces_are_short() {
    let task = Countdown::default();
    let mut rng = Rng::derive(&[3]);
    for (form, longest, mean) in [
        (Form::Spaced, 198, 105.0),
        (Form::Tight, 181, 97.0),
        (Form::Shared, 166, 92.0),
    ] {
        let mix = Mix {
            form,
            blurt: 0.0,
            hasty: 0.0,
            ..task.mix()
        };
        let mut lengths = Vec::new();
        for _ in 0..1_000 {
            let problem = task.problem(&mut rng, &task.level()).unwrap();
            lengths.push(
                task.habit(&problem, &mut rng, &mix)
                    .unwrap()
                    .split(' ')
                    .count(),
            );
        }
        let average = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        assert!(
            *lengths.iter().max().unwrap() <= longest,
            "{form:?} {:?}",
            lengths.iter().max()
        );
        assert!(average < mean, "{form:?} {average}");
    }
}

#[test]
fn drilled_facts_are_true() {
    let task = Countdown::default();
    let mut rng = Rng::derive(&[4]);
    let mut verdicts = [0; 2];
    for _ in 0..300 {
        let line = task.drill(&mut rng, &task.mix()).unwrap();
        for fact in line.split(" , ") {
            let words: Vec<&str> = fact.split(' ').collect();
            match words.as_slice() {
                [value, target, verdict] => {
                    assert_eq!(value == target, *verdict == YES, "{fact}");
                    verdicts[usize::from(*verdict == YES)] += 1;
                }
                [left, sign, right, value] => {
                    let text = format!("{left} {sign} {right}");
                    let result = Expression::parse(&text)
                        .unwrap()
                        .value()
                        .unwrap()
                        .numerator();
                    let spelled = trace::spell(i64::try_from(result).unwrap(), CEILING);
                    assert_eq!(spelled, *value, "{fact}");
                }
                _ => panic!("{line}"),
            }
        }
    }
    assert!(verdicts[0] > 200 && verdicts[1] > 200, "{verdicts:?}");
}

#[test]
fn probes_ask_for_the_next_words_of_a_patient_search() {
    let task = Countdown::default();
    let mut rng = Rng::derive(&[5]);
    for form in [Form::Spaced, Form::Tight, Form::Shared] {
        let mix = Mix {
            form,
            blurt: 0.0,
            hasty: 0.0,
            ..task.mix()
        };
        let mut skills = BTreeSet::new();
        for _ in 0..50 {
            let problem = task.problem(&mut rng, &task.level()).unwrap();
            let line = task.habit(&problem, &mut rng, &mix).unwrap();
            let whole = format!("{} {line} ", problem.question);
            for probe in task.probes(&problem, &mut rng, &mix).unwrap() {
                assert!(whole.starts_with(&format!("{} {} ", probe.prompt, probe.expected)));
                skills.insert(probe.skill);
            }
        }
        assert_eq!(skills.len(), 5);
    }
}

#[test]
fn keys_ignore_order() {
    assert_eq!(problem("7 3 12 make 57").key, problem("12 7 3 make 57").key);
    assert_ne!(problem("7 3 12 make 57").key, problem("7 3 12 make 58").key);
}

#[test]
fn questions_typed_by_hand_are_checked() {
    let task = Countdown::default();
    assert_eq!(problem(" 7  3 12 make 57 ").question, "7 3 12 make 57");
    for bad in [
        "",
        "7 3 12",
        "7 make",
        "make 7",
        "7 make 7",
        "0 3 make 5",
        "7 100 make 5",
        "7 3 make 5 5",
        "7 -3 make 4",
        "1 1 1 1 1 1 1 make 7",
        "7 <think> make 7",
    ] {
        assert!(task.parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn impossible_levels_are_named() {
    let task = Countdown::default();
    let mut rng = Rng::derive(&[6]);
    let bad = [
        (
            "size_min",
            Level {
                size_min: 1,
                ..task.level()
            },
        ),
        (
            "size_min",
            Level {
                size_min: 4,
                ..task.level()
            },
        ),
        (
            "size_max",
            Level {
                size_max: 9,
                ..task.level()
            },
        ),
        (
            "largest",
            Level {
                largest: 2,
                ..task.level()
            },
        ),
        (
            "largest",
            Level {
                largest: 100,
                ..task.level()
            },
        ),
        (
            "target_max",
            Level {
                target_min: 70,
                ..task.level()
            },
        ),
    ];
    for (field, level) in bad {
        let error = task.problem(&mut rng, &level).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    let none = Level {
        largest: 3,
        target_min: 50,
        target_max: 60,
        ..task.level()
    };
    assert!(matches!(
        task.problem(&mut rng, &none),
        Err(TaskError::NoProblem { .. })
    ));
}

#[test]
fn rows_of_a_data_file_are_a_harder_setting() {
    let Some(text) = fixture::data("countdown-train/train.jsonl.gz") else {
        return;
    };
    let text: Vec<&str> = text.lines().take(3_000).collect();
    let task = Countdown::from_rows("countdown-hard", &text.join("\n"), 100).unwrap();
    let words: BTreeSet<String> = task.words().into_iter().collect();
    let mut rng = Rng::derive(&[7]);
    let level = Level {
        size_max: 3,
        ..task.level()
    };
    let mix = Mix {
        blurt: 0.2,
        hasty: 0.2,
        patient: 0.6,
        patience: 60,
        ..task.mix()
    };
    let mut n_right = 0;
    for _ in 0..200 {
        let problem = task.problem(&mut rng, &level).unwrap();
        let line = task.habit(&problem, &mut rng, &mix).unwrap();
        for word in line
            .split(' ')
            .filter(|word| !["<think>", "</think>"].contains(word))
        {
            assert!(words.contains(word), "{word}");
        }
        n_right += u32::from(task.grade(&problem, answer_of(&line)).correct);
    }
    // Nearly every row of three numbers is solved by whole intermediate results.
    assert!(n_right > 110, "{n_right}");
    for bad in [
        "{}",
        "{\"numbers\": [1], \"target\": 1}",
        "{\"numbers\": [1, 999], \"target\": 1}",
    ] {
        let error = Countdown::from_rows("hard", bad, 100).unwrap_err();
        assert!(error.to_string().contains("row 1"), "{error}");
    }
}

#[test]
fn a_foreign_problem_is_refused() {
    let task = Countdown::default();
    let foreign = Problem {
        data: serde_json::json!({"bits": 3}),
        ..problem("1 2 make 3")
    };
    assert_eq!(task.grade(&foreign, "1 + 2").reason, Reason::ForeignProblem);
    assert!(
        task.habit(&foreign, &mut Rng::derive(&[1]), &task.mix())
            .is_err()
    );
}
