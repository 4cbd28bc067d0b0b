//! What `hangproof list` shows: the definitions as tables.
//!
//! Returns text and never prints it; says only what the definitions say, not whether something is built or installed.
//!
//! Read [`list`].

use comfy_table::{ContentArrangement, Table, presets};

use crate::plan::{Cell, cells};
use crate::spec::{Definitions, Expected, Image, Kernel, Layout, Location, Name, Pipeline, Prebuilt, Source};

/// The kernels, images and pipelines, one table each. `width` is the terminal's, if there is one to fit.
#[must_use]
pub fn list(definitions: &Definitions, width: Option<u16>) -> String {
    let tables = [
        table(["kernel", "extends", "source", "patches", "description"], definitions.kernels.values().map(kernel), width),
        table(["image", "layout", "size", "description"], definitions.images.values().map(image), width),
        table(["pipeline", "kernels", "duration", "description"], definitions.pipelines.values().map(pipeline), width),
    ];
    tables.join("\n")
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.map(str::to_uppercase)).add_rows(rows);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn kernel(kernel: &Kernel) -> [String; 5] {
    let Kernel { name, description, base, patches, inherited_patches, .. } = kernel;
    let own = patches.len() - inherited_patches;
    let patches = if *inherited_patches == 0 { own.to_string() } else { format!("{inherited_patches} + {own}") };
    [name.to_string(), base.as_ref().map_or_else(String::new, Name::to_string), source(kernel), patches, description.clone()]
}

/// A variant's source is its base's, which has a row of its own.
fn source(kernel: &Kernel) -> String {
    match &kernel.source {
        _ if kernel.base.is_some() => String::new(),
        Source::Debian { package, version: None } => format!("debian {package}"),
        Source::Debian { package, version: Some(version) } => format!("debian {package} {version}"),
        Source::Tarball { location, .. } => format!("tarball {location}"),
        Source::Git { repository, revision } => format!("git {repository} {revision}"),
        Source::Directory { path } => format!("directory {}", path.display()),
        Source::Prebuilt(Prebuilt::Debian { package, version: None }) => format!("prebuilt {package}"),
        Source::Prebuilt(Prebuilt::Debian { package, version: Some(version) }) => format!("prebuilt {package} {version}"),
        Source::Prebuilt(Prebuilt::Files(files)) => {
            let files = files.iter().map(|file| match &file.location {
                Location::Path(path) => path.display().to_string(),
                Location::Url(url) => url.rsplit('/').next().unwrap_or(url).to_owned(),
            });
            format!("prebuilt {}", files.collect::<Vec<_>>().join(" + "))
        }
        Source::Srpm(srpm) => format!("srpm {}", srpm.file),
    }
}

fn image(image: &Image) -> [String; 4] {
    let layout = match image.layout {
        Layout::Md => "ext4 on md RAID1",
        Layout::Plain => "ext4",
    };
    [image.name.to_string(), layout.to_owned(), format!("{} MiB", image.size.0), image.description.clone()]
}

fn pipeline(pipeline: &Pipeline) -> [String; 4] {
    let arm = |Cell { kernel, mitigation, expected }: &Cell| {
        let with = mitigation.as_ref().map_or_else(String::new, |mitigation| format!(" + {mitigation}"));
        format!("{kernel}{with}: {}", expected.map_or("?", word))
    };
    let arms: Vec<String> = cells(&pipeline.kernels, &pipeline.mitigations).iter().map(arm).collect();
    [pipeline.name.to_string(), arms.join("\n"), format!("{} s", pipeline.limits.duration.as_secs_f64()), pipeline.description.clone()]
}

fn word(expected: Expected) -> &'static str {
    match expected {
        Expected::Pass => "pass",
        Expected::Hang => "hang",
        Expected::Crash => "crash",
        Expected::BootFailure => "boot-failure",
    }
}
