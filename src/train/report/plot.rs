//! The plots of a report as inline SVG, drawn by plotters. Their colours are the page's, so that they follow light and dark and print.
//!
//! Knows numbers and axis names; nothing of models.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

/// Colours that plotters writes and [`finish`] replaces by the page's variables: text, grid, and the series in order.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(1, 1, 2);
const SERIES: [RGBColor; 5] = [RGBColor(1, 1, 3), RGBColor(1, 1, 4), RGBColor(1, 1, 5), RGBColor(1, 1, 6), RGBColor(1, 1, 7)];
const NAMES: [(&str, &str); 7] = [
    ("#010101", "var(--ink)"),
    ("#010102", "var(--grid)"),
    ("#010103", "var(--s0)"),
    ("#010104", "var(--s1)"),
    ("#010105", "var(--s2)"),
    ("#010106", "var(--s3)"),
    ("#010107", "var(--s4)"),
];

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Mark every point.
    pub marked: bool,
}

/// A plot's frame.
#[derive(Clone)]
pub struct Axes<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub xs: Range<f64>,
    pub ys: Range<f64>,
    /// Whether `x` counts something: no fractions on its axis.
    pub whole: bool,
}

type Failure = Box<dyn std::error::Error>;

/// Lines in one frame; the diagonal from corner to corner where `diagonal`.
pub fn lines(axes: &Axes<'_>, lines: &[Line], diagonal: bool) -> anyhow::Result<String> {
    let legend: Vec<&str> = lines.iter().map(|l| l.name.as_str()).collect();
    draw(axes, &legend, |area| {
        let mut chart = frame(axes, area)?;
        if diagonal {
            let ends = [(axes.xs.start, axes.ys.start), (axes.xs.end, axes.ys.end)];
            chart.draw_series(LineSeries::new(ends, GRID.stroke_width(2)))?;
        }
        // The first line lies above the others.
        for (line, color) in lines.iter().zip(SERIES).rev() {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?;
            if line.marked {
                chart.draw_series(line.points.iter().map(|p| Circle::new(*p, 3, color.filled())))?;
            }
        }
        Ok(())
    })
}

/// Bars side by side: `groups[i]` are the heights over `labels[i]`, one per name.
pub fn bars(axes: &Axes<'_>, names: &[&str], labels: &[String], groups: &[Vec<f64>]) -> anyhow::Result<String> {
    let axes = &Axes { xs: 0.0..groups.len() as f64, ..axes.clone() };
    draw(axes, names, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(axes.xs.clone(), axes.ys.clone())?;
        let name =
            |x: &f64| labels.get((*x - 0.5).round() as usize).filter(|_| (x.fract() - 0.5).abs() < 0.01).cloned().unwrap_or_default();
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .disable_x_mesh()
            .x_labels(2 * groups.len() + 1)
            .x_label_formatter(&name)
            .x_desc(axes.x)
            .y_desc(axes.y)
            .y_labels(5)
            .label_style(("sans-serif", 16).into_font().color(&INK))
            .draw()?;
        let width = 0.8 / names.len() as f64;
        for (i, group) in groups.iter().enumerate() {
            for (k, (height, color)) in group.iter().zip(SERIES).enumerate() {
                let from = i as f64 + 0.1 + k as f64 * width;
                chart.draw_series([Rectangle::new([(from, 0.0), (from + width, *height)], color.filled())])?;
            }
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>>;

fn frame<'a, 'b>(axes: &Axes<'_>, area: &'a Area<'b>) -> Result<Chart<'a, 'b>, Failure> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(46)
        .y_label_area_size(58)
        .build_cartesian_2d(axes.xs.clone(), axes.ys.clone())?;
    let number =
        |x: &f64| if axes.whole { if x.fract().abs() < 1e-9 { format!("{x:.0}") } else { String::new() } } else { format!("{x:.1}") };
    let fine = |y: &f64| format!("{:.*}", if axes.ys.end - axes.ys.start < 0.35 { 2 } else { 1 }, y);
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&number)
        .y_label_formatter(&fine)
        .label_style(("sans-serif", 16).into_font().color(&INK))
        .draw()?;
    Ok(chart)
}

fn draw(axes: &Axes<'_>, legend: &[&str], paint: impl Fn(&Area<'_>) -> Result<(), Failure>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (420, 280)).into_drawing_area();
        paint(&area).map_err(|e| anyhow::anyhow!("cannot draw {}: {e}", axes.title))?;
        area.present().map_err(|e| anyhow::anyhow!("cannot draw {}: {e}", axes.title))?;
    }
    Ok(finish(svg, axes, legend))
}

fn finish(mut svg: String, axes: &Axes<'_>, legend: &[&str]) -> String {
    for (from, to) in NAMES {
        svg = svg.replace(from, to);
    }
    let title = super::escape(axes.title);
    let svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
    let keys = if legend.len() > 1 { keys(legend) } else { String::new() };
    format!("<figure><figcaption>{title}</figcaption>{svg}{keys}</figure>\n")
}

/// What the colours of the series stand for.
pub fn keys(names: &[&str]) -> String {
    let key = |(i, name): (usize, &&str)| format!("<span class=\"key s{i}\">{}</span>", super::escape(name));
    format!("<p class=\"keys\">{}</p>", names.iter().enumerate().map(key).collect::<String>())
}
