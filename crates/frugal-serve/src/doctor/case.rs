//! What a case is made of.

use std::pin::Pin;

use serde_json::Value;

use super::Verdict;
use super::check::{Outcome, Why, is_error};
use super::subject::{CHAT, Subject};
use crate::client::{Answer, Call};

/// Something that must hold.
#[derive(Debug)]
pub(super) struct Case {
    /// What, in words.
    pub(super) name: &'static str,
    way: Way,
}

/// What is done while a case runs by itself.
pub(super) type Doing<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// How a case is tried.
#[derive(Debug)]
enum Way {
    /// One call, and what must hold of its answer.
    One(fn(&Subject) -> Call, fn(&Subject, &Answer) -> Outcome),
    /// Calls one after another, each made of the answers so far until there is none left to make.
    Several(
        fn(&Subject, &[Answer]) -> Option<Call>,
        fn(&Subject, &[Answer]) -> Outcome,
    ),
    /// The question, with other fields each time.
    Asked(Vec<Value>, fn(&[Answer]) -> Outcome),
    /// One call that is refused with a status, naming what is wrong.
    Refused(fn(&Subject) -> Call, u16, &'static str),
    /// The question with fields that are wrong, one of which is named.
    Wrong(Value, &'static str),
    /// What is no matter of calls and answers.
    Own(fn(&Subject) -> Doing<'_>),
}

/// One call.
pub(super) const fn one(
    name: &'static str,
    call: fn(&Subject) -> Call,
    check: fn(&Subject, &Answer) -> Outcome,
) -> Case {
    let way = Way::One(call, check);
    Case { name, way }
}

/// Several.
pub(super) const fn several(
    name: &'static str,
    next: fn(&Subject, &[Answer]) -> Option<Call>,
    check: fn(&Subject, &[Answer]) -> Outcome,
) -> Case {
    let way = Way::Several(next, check);
    Case { name, way }
}

/// The question so many times, with these fields changed each time.
pub(super) fn asked<const N: usize>(
    name: &'static str,
    changes: [Value; N],
    check: fn(&[Answer]) -> Outcome,
) -> Case {
    let way = Way::Asked(changes.into(), check);
    Case { name, way }
}

/// One that is refused. What is wrong stands in the envelope's `param`, `message` or `code`; nothing
/// is looked for where it is empty.
pub(super) const fn refused(
    name: &'static str,
    call: fn(&Subject) -> Call,
    (status, named): (u16, &'static str),
) -> Case {
    let way = Way::Refused(call, status, named);
    Case { name, way }
}

/// Questions that are refused: their names, what is changed, and which field is named as wrong.
pub(super) fn wrong<const N: usize>(
    rows: [(&'static str, Value, &'static str); N],
) -> impl Iterator<Item = Case> {
    rows.into_iter().map(|(name, changes, named)| Case {
        name,
        way: Way::Wrong(changes, named),
    })
}

/// One by itself.
pub(super) const fn own(name: &'static str, run: fn(&Subject) -> Doing<'_>) -> Case {
    let way = Way::Own(run);
    Case { name, way }
}

impl Case {
    /// Tries it.
    pub(super) async fn run(&self, subject: &Subject) -> Verdict {
        match self.outcome(subject).await {
            Ok(()) => Verdict::Pass,
            Err(Why::NotOffered) => Verdict::NotOffered,
            Err(Why::Fails(why)) => Verdict::Fail(why),
        }
    }

    async fn outcome(&self, subject: &Subject) -> Outcome {
        match &self.way {
            Way::One(call, check) => {
                let answer = subject.send(call(subject)).await?;
                check(subject, &answer)
            }
            Way::Several(next, check) => {
                let mut answers = Vec::new();
                while let Some(call) = next(subject, &answers) {
                    answers.push(subject.send(call).await?);
                }
                check(subject, &answers)
            }
            Way::Asked(changes, check) => {
                let mut answers = Vec::new();
                for changes in changes {
                    answers.push(subject.send(subject.chat(changes)).await?);
                }
                check(&answers)
            }
            Way::Refused(call, status, named) => {
                let call = call(subject);
                // That the chat route is there is known.
                let may_lack = *status != 404 && call.path != CHAT;
                let answer = subject.send(call).await?;
                if may_lack && matches!(answer.status, 404 | 501) {
                    return Err(Why::NotOffered);
                }
                is_error(&answer, *status, named)
            }
            Way::Wrong(changes, named) => {
                let answer = subject.send(subject.chat(changes)).await?;
                is_error(&answer, 400, named)
            }
            Way::Own(run) => run(subject).await,
        }
    }
}
