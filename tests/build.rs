//! Builds: the flow with a tiny tree that has a kernel's make targets, and a real kernel (ignored unless asked for: it takes minutes).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hangproof::build::{self, Built};
use hangproof::event::{Event, Events};
use hangproof::spec::{Configuration, ConfigurationBase, Definitions, Kernel, Name, Source, Toolchain};
use hangproof::store::Store;

fn kernel(name: &str, source: &Source, fragments: &[PathBuf]) -> Kernel {
    Kernel {
        name: Name::new(name).unwrap(),
        description: String::new(),
        defined_in: PathBuf::from("kernels/test.yaml"),
        base: None,
        source: source.clone(),
        toolchain: Toolchain::Host { compiler: "gcc".into() },
        configuration: Configuration { base: ConfigurationBase::Allnoconfig, fragments: fragments.to_vec() },
        compatibility: Vec::new(),
        patches: Vec::new(),
        inherited_patches: 0,
        boot_arguments: Vec::new(),
    }
}

fn variant(name: &str, base: &Kernel, patches: &[PathBuf]) -> Kernel {
    Kernel {
        name: Name::new(name).unwrap(),
        base: Some(base.name.clone()),
        patches: base.patches.iter().chain(patches).cloned().collect(),
        inherited_patches: base.patches.len(),
        ..base.clone()
    }
}

fn definitions(kernels: &[Kernel]) -> Definitions {
    let kernels = kernels.iter().map(|kernel| (kernel.name.clone(), kernel.clone())).collect();
    Definitions { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), kernels, ..Definitions::default() }
}

fn drain(reader: &mut tokio::sync::mpsc::UnboundedReceiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| reader.try_recv().ok()).collect()
}

/// Linux 6.1 from Debian, a base on it and two variants, as the quickstart has them. Run it with `--ignored --nocapture`; `HANGPROOF_CACHE` keeps
/// its store.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches and builds Linux 6.1: minutes"]
#[expect(clippy::print_stdout, reason = "the measurements are its result")]
async fn debian_kernel_and_variants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let store = if std::env::var_os("HANGPROOF_CACHE").is_some() { Store::open() } else { Store::open_at(folder.path()) }.unwrap();
    let patch = |name: &str| vec![root.join("patches").join(name)];
    let source = Source::Debian { package: "linux-source-6.1".into(), version: None };
    let base = kernel("debian-6.1", &source, &[root.join("kernels/debian-6.1.config")]);
    let el7mm = variant("debian-6.1-el7mm", &base, &patch("el7-memcg-oom.patch"));
    let lost = variant("debian-6.1-el7mm-nofail-lost", &el7mm, &patch("nofail-lost.patch"));
    let restored = variant("debian-6.1-el7mm-nofail-restored", &lost, &patch("nofail-restored.patch"));
    let all = [base, el7mm, lost, restored];
    let definitions = definitions(&all);
    let (events, mut reader) = Events::channel();
    for kernel in &all {
        let started = Instant::now();
        let built = build::build(&store, &definitions, kernel, &events, 2).await.unwrap();
        println!(
            "{}: {:.1} s all in, {:.1} s, {} objects",
            kernel.name,
            started.elapsed().as_secs_f64(),
            built.manifest.seconds,
            built.manifest.objects
        );
        for event in drain(&mut reader) {
            if !matches!(event, Event::BuildProgress { .. } | Event::Download { .. }) {
                println!("  {event:?}");
            }
        }
        let Built { image, vmlinux, system_map, config, .. } = &built;
        assert!([image, vmlinux, system_map, config].iter().all(|path| fs::metadata(path).unwrap().len() > 0));
        assert!(!built.manifest.unchanged_from_base);
        let again = Instant::now();
        let cached = build::build(&store, &definitions, kernel, &events, 2).await.unwrap();
        assert_eq!(cached.key, built.key);
        println!("  cached: {:.2} s", again.elapsed().as_secs_f64());
        drain(&mut reader);
    }
}
