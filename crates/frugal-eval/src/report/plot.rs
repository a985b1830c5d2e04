//! Line charts as inline SVG. Colours are CSS classes, so that they follow light and dark; lines
//! also differ in dash and carry their name at their end, so that nobody needs the colours; every
//! chart says in words what it shows.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::numbers::compact;
use super::series::Point;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 176.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 58.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Least distance of two labels at line ends.
const LABEL_GAP: f64 = 13.0;
/// Up to so many points get dots: they were measured one by one.
const MOST_DOTS: usize = 25;

/// What the upright axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share, drawn from 0 to 100 %.
    WholeShare,
    /// A share that stays small.
    SmallShare,
    /// Anything else, by its name.
    Of(&'static str),
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::WholeShare | Self::SmallShare => "%",
            Self::Of(name) => name,
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::WholeShare | Self::SmallShare => format!("{}\u{202f}%", compact(value * 100.0)),
            Self::Of(_) => compact(value),
        }
    }
}

/// What the level axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Across {
    /// Steps.
    Steps,
    /// Powers of two: x is the exponent.
    Draws,
}

impl Across {
    fn name(self) -> &'static str {
        match self {
            Self::Steps => "step",
            Self::Draws => "tries k",
        }
    }

    fn text(self, x: f64) -> String {
        match self {
            Self::Steps => compact(x),
            Self::Draws => compact(x.exp2()),
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Its name, short enough to stand at its end.
    pub(super) name: String,
    /// Its points, by rising x.
    pub(super) points: Vec<Point>,
}

/// A straight line for comparison.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Where.
    pub(super) at: f64,
    /// What it marks.
    pub(super) label: String,
}

/// One chart.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// What is shown.
    pub(super) title: String,
    /// Where it comes from: a stage's name.
    pub(super) place: String,
    /// The upright axis.
    pub(super) unit: Unit,
    /// The level axis.
    pub(super) across: Across,
    /// The lines; those without points are not drawn.
    pub(super) lines: Vec<Line>,
    /// A value to compare with.
    pub(super) level: Option<Rule>,
    /// A place on the level axis to look at.
    pub(super) upright: Option<Rule>,
}

/// How values become places in the picture.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    x_ticks: Vec<f64>,
    y_ticks: Vec<f64>,
}

impl Frame {
    fn of(chart: &Chart) -> Self {
        let all = || chart.lines.iter().flat_map(|line| &line.points);
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let mut x = (
            least(&mut all().map(|p| p.x)),
            most(&mut all().map(|p| p.x)),
        );
        if chart.across == Across::Steps {
            x.0 = 0.0;
        }
        let low = least(&mut all().map(|p| p.low));
        let high = most(
            &mut all()
                .map(|p| p.high)
                .chain(chart.level.iter().map(|rule| rule.at)),
        );
        let y_ticks = match chart.unit {
            Unit::WholeShare => vec![0.0, 0.25, 0.5, 0.75, 1.0],
            // A curve that stays far above 0 is drawn close up, any other from 0.
            _ if low > 0.6 * high => ticks(low, high, 4.0),
            _ => ticks(low.min(0.0), high, 4.0),
        };
        let y = match (y_ticks.first(), y_ticks.last()) {
            (Some(first), Some(last)) if last > first => (first.min(low), last.max(high)),
            _ => (low - 0.5, low + 0.5),
        };
        let mut x_ticks = match chart.across {
            Across::Steps => ticks(x.0, x.1, 5.0),
            Across::Draws => (0..24).map(f64::from).collect(),
        };
        x_ticks.retain(|tick| (x.0..=x.1).contains(tick));
        Self {
            x,
            y,
            x_ticks,
            y_ticks,
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + share(value, self.x) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - share(value, self.y)) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Where a value lies in a range; the middle of a range without width.
fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    if high > low {
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    } else {
        0.5
    }
}

/// About `most` round numbers that cover a range.
fn ticks(low: f64, high: f64, most: f64) -> Vec<f64> {
    let width = high - low;
    if !(width > 0.0 && width.is_finite()) {
        return vec![low];
    }
    let rough = width / most;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|round| round * magnitude >= rough * 0.999);
    let step = round.unwrap_or(10.0) * magnitude;
    let (mut index, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
    let mut ticks = vec![];
    while index <= last && ticks.len() < 32 {
        ticks.push(index * step);
        index += 1.0;
    }
    ticks
}

/// A coordinate with one decimal.
pub(super) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// The chart as a figure, or nothing where no line has points.
pub(super) fn figure(chart: &Chart) -> Option<Markup> {
    let lines: Vec<(usize, &Line)> = chart
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let frame = Frame::of(chart);
    let words = in_words(chart);
    Some(html! {
        figure.chart {
            figcaption { b { (chart.title) } " " span.unit { (chart.unit.name()) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(words) {
                title { (words) }
                (axes(chart, &frame))
                @for (index, line) in &lines { (drawn(*index, line, &frame)) }
                (rules(chart, &frame))
                (labels(chart, &lines, &frame))
            }
        }
    })
}

fn axes(chart: &Chart, frame: &Frame) -> Markup {
    let bottom = HEIGHT - BOTTOM;
    html! {
        @for tick in &frame.y_ticks {
            path.grid d={ "M" (at(LEFT)) " " (at(frame.y(*tick))) "H" (at(WIDTH - RIGHT)) } {}
            text.tick x=(at(LEFT - 6.0)) y=(at(frame.y(*tick) + 4.0)) text-anchor="end" {
                (chart.unit.text(*tick))
            }
        }
        path.axis d={ "M" (at(LEFT)) " " (at(bottom)) "H" (at(WIDTH - RIGHT)) } {}
        @for tick in &frame.x_ticks {
            path.axis d={ "M" (at(frame.x(*tick))) " " (at(bottom)) "v4" } {}
            text.tick x=(at(frame.x(*tick))) y=(at(bottom + 16.0)) text-anchor="middle" {
                (chart.across.text(*tick))
            }
        }
        text.tick x=(at(WIDTH - RIGHT + 18.0)) y=(at(bottom + 16.0)) { (chart.across.name()) }
    }
}

fn drawn(index: usize, line: &Line, frame: &Frame) -> Markup {
    let place = |x: f64, y: f64| format!("{} {}", at(frame.x(x)), at(frame.y(y)));
    let join = |places: Vec<String>| places.join("L");
    let middle = join(line.points.iter().map(|p| place(p.x, p.y)).collect());
    let has_band = line.points.iter().any(|p| p.high > p.low);
    let over: Vec<String> = line.points.iter().map(|p| place(p.x, p.high)).collect();
    let under = line.points.iter().rev().map(|p| place(p.x, p.low));
    let band = join(over.into_iter().chain(under).collect());
    html! {
        @if has_band { path class={ "band of" (index) } d={ "M" (band) "Z" } {} }
        path class={ "line of" (index) } d={ "M" (middle) } {}
        @if line.points.len() <= MOST_DOTS {
            @for point in &line.points {
                circle class={ "dot of" (index) } cx=(at(frame.x(point.x)))
                    cy=(at(frame.y(point.y))) r="2.4" {}
            }
        } @else if let Some(last) = line.points.last() {
            circle class={ "dot of" (index) } cx=(at(frame.x(last.x))) cy=(at(frame.y(last.y)))
                r="3" {}
        }
    }
}

fn rules(chart: &Chart, frame: &Frame) -> Markup {
    html! {
        @if let Some(rule) = &chart.level {
            path.rule d={ "M" (at(LEFT)) " " (at(frame.y(rule.at))) "H" (at(WIDTH - RIGHT)) } {}
            text.note x=(at(LEFT + 4.0)) y=(at(frame.y(rule.at) - 5.0)) { (rule.label) }
        }
        @if let Some(rule) = &chart.upright {
            path.rule d={ "M" (at(frame.x(rule.at))) " " (at(TOP)) "V" (at(HEIGHT - BOTTOM)) } {}
            @let (beside, anchor) = match frame.x(rule.at) {
                x if x > WIDTH / 2.0 => (x - 5.0, "end"),
                x => (x + 5.0, "start"),
            };
            text.note x=(at(beside)) y=(at(HEIGHT - BOTTOM - 6.0)) text-anchor=(anchor) {
                (rule.label)
            }
        }
    }
}

/// Names at the ends of the lines, or the last value where there is only one.
fn labels(chart: &Chart, lines: &[(usize, &Line)], frame: &Frame) -> Markup {
    let is_single = lines.len() == 1;
    let mut placed: Vec<(f64, usize, String)> = lines
        .iter()
        .filter_map(|(index, line)| {
            let last = line.points.last()?;
            let text = if is_single {
                chart.unit.text(last.y)
            } else {
                line.name.clone()
            };
            Some((frame.y(last.y), *index, text))
        })
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (y, ..) in &mut placed {
        *y = y.max(lowest + LABEL_GAP);
        lowest = *y;
    }
    // Labels that were pushed out at the bottom move up together.
    let excess = (lowest - (HEIGHT - BOTTOM)).max(0.0);
    html! {
        @for (y, index, text) in &placed {
            text class={ "name of" (index) } x=(at(WIDTH - RIGHT + 7.0)) y=(at(y - excess + 4.0)) {
                (text)
            }
        }
    }
}

/// What the chart shows, for those who do not see it.
fn in_words(chart: &Chart) -> String {
    let mut words = format!("{} ({}), {}.", chart.title, chart.unit.name(), chart.place);
    // Writing to a String cannot fail.
    for line in &chart.lines {
        let (Some(first), Some(last)) = (line.points.first(), line.points.last()) else {
            continue;
        };
        let low = line
            .points
            .iter()
            .map(|p| p.low)
            .fold(f64::INFINITY, f64::min);
        let high = line
            .points
            .iter()
            .map(|p| p.high)
            .fold(f64::NEG_INFINITY, f64::max);
        let text = |value| chart.unit.text(value);
        let (from, to) = (chart.across.text(first.x), chart.across.text(last.x));
        let _ = write!(
            words,
            " {}: from {} at {} {from} to {} at {} {to}; lowest {}, highest {}.",
            line.name,
            text(first.y),
            chart.across.name(),
            text(last.y),
            chart.across.name(),
            text(low),
            text(high),
        );
    }
    for rule in chart.level.iter().chain(&chart.upright) {
        let _ = write!(words, " For comparison: {}.", rule.label);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_cover_the_range() {
        let rows = [
            (0.0, 1.0),
            (0.0, 97.0),
            (3.1, 3.9),
            (-0.4, 12.0),
            (0.0, 3e-5),
            (1.0, 2_000.0),
        ];
        for (low, high) in rows {
            let ticks = ticks(low, high, 4.0);
            assert!((3..=7).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(
                ticks[0] <= low + 1e-12 && ticks[ticks.len() - 1] >= high * 0.999,
                "{ticks:?}"
            );
        }
        assert_eq!(ticks(2.0, 2.0, 4.0), [2.0]);
        assert_eq!(
            ticks(f64::INFINITY, f64::NEG_INFINITY, 4.0),
            [f64::INFINITY]
        );
    }

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "Accuracy".into(),
            place: "base".into(),
            unit: Unit::WholeShare,
            across: Across::Steps,
            lines,
            level: None,
            upright: None,
        }
    }

    #[test]
    fn a_chart_without_points_is_no_chart() {
        assert!(figure(&chart(vec![])).is_none());
        assert!(
            figure(&chart(vec![Line {
                name: "a".into(),
                points: vec![]
            }]))
            .is_none()
        );
    }

    #[test]
    fn a_chart_tells_its_numbers_in_words_and_keeps_inside_its_frame() {
        let points = vec![Point::bare(1.0, 0.1), Point::bare(2.0, 1.7)];
        let line = |name: &str| Line {
            name: name.into(),
            points: points.clone(),
        };
        let drawn = figure(&chart(vec![line("right"), line("in form")]))
            .unwrap()
            .into_string();
        assert!(
            drawn.contains("from 10\u{202f}% at step 1 to 170\u{202f}% at step 2"),
            "{drawn}"
        );
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        let single = figure(&chart(vec![Line {
            name: "right".into(),
            points: vec![points[0]],
        }]));
        assert!(!single.unwrap().into_string().contains("NaN"));
    }

    #[test]
    fn labels_of_lines_that_end_together_stand_apart() {
        let line = |name: &str, y| Line {
            name: name.into(),
            points: vec![Point::bare(1.0, y)],
        };
        let chart = chart(vec![line("a", 0.01), line("b", 0.0), line("c", 0.02)]);
        let drawn = figure(&chart).unwrap().into_string();
        let mut heights: Vec<f64> = drawn
            .split("class=\"name")
            .skip(1)
            .map(|label| {
                label
                    .split("y=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
            })
            .map(|y| y.parse().unwrap())
            .collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 3);
        assert!(
            heights
                .windows(2)
                .all(|pair| pair[1] - pair[0] > LABEL_GAP - 0.2),
            "{heights:?}"
        );
        assert!(heights[2] <= HEIGHT - BOTTOM + 4.1);
    }
}
