//! The picture beside the tables: a bar for each contestant, on a logarithmic scale, since they lie between a tenth of
//! a millisecond and a second.

use std::fmt::Write as _;

use super::race::Figures;
use super::report::number;

const WIDTH: f64 = 860.0;
/// Where the bars begin; the names are left of it.
const LEFT: f64 = 330.0;
const ROW: f64 = 22.0;
const HEADING: f64 = 40.0;

/// An SVG of these tables, times in milliseconds.
pub(super) fn draw<'a>(tables: impl Iterator<Item = (&'a str, &'a [Figures])>) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for (title, figures) in tables {
        let medians = || figures.iter().map(Figures::median).filter(|median| *median > 0.0);
        let least = medians().fold(f64::INFINITY, f64::min) / 2.0;
        let most = medians().fold(0.0, f64::max);
        top += HEADING;
        let _infallible =
            writeln!(body, r#"<text x="10" y="{}" class="title">{}</text>"#, top - 12.0, escape(title));
        for each in figures {
            let median = each.median();
            let length = (WIDTH - LEFT - 80.0) * (median / least).ln() / (most / least).ln();
            let class = match each.name.split([' ', ':']).next() {
                Some("start-container" | "SDK") => "ours",
                Some("floor") => "floor",
                _ => "other",
            };
            let middle = top + ROW * 0.68;
            let _infallible = writeln!(
                body,
                r#"<text x="{}" y="{middle}" text-anchor="end">{}</text><rect class="{class}" x="{LEFT}" y="{top}" width="{length:.1}" height="{}"/><text x="{:.1}" y="{middle}">{} ms</text>"#,
                LEFT - 8.0,
                escape(&each.name),
                ROW - 6.0,
                LEFT + length + 6.0,
                number(median),
            );
            top += ROW;
        }
    }
    let height = top + 30.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<style>text{{fill:#333}}.title{{font-size:15px;font-weight:bold}}.ours{{fill:#2a7de1}}.floor{{fill:#bbb}}.other{{fill:#e8a33d}}</style>
<rect width="{WIDTH}" height="{height}" fill="#fff"/>
{body}<text x="10" y="{}" font-size="11">Medians of one interleaved run, logarithmic scale. Blue: start-container. Grey: the system calls alone.</text>
</svg>
"##,
        height - 10.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
