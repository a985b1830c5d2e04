//! Writes a report of made-up numbers, to look at the page without a run:
//! `cargo run -p frugal-eval --example report_demo -- report.html`.

mod data;

fn main() -> std::io::Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "report.html".to_owned());
    let report = data::report();
    for sentence in frugal_eval::report::story(&report) {
        eprintln!("{sentence}");
    }
    std::fs::write(path, frugal_eval::report::render(&report))
}
