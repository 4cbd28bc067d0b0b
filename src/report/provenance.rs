//! Provenance of a built kernel: an in-toto Statement v1 with a SLSA v1 predicate.
//!
//! It says what went in and what came out, with digests; it isn't signed, and claims no SLSA level. Materials are the source, the patches and the
//! configuration's parts. See in-toto.io/Statement/v1 and slsa.dev/provenance/v1.
//!
//! Read [`statement`].

use serde_json::{Value, json};

use super::kernels::{Inputs, Patch};
use super::materials::Material;
use crate::build::Manifest;

/// What `externalParameters` mean.
const BUILD_TYPE: &str = "urn:hangproof:kernel-build:1";

/// Who built it.
const BUILDER: &str = "urn:hangproof:builder";

/// The statement of a kernel's build.
#[must_use]
pub fn statement(hangproof: &str, build: &Manifest, inputs: &Inputs) -> Value {
    let mut subjects: Vec<Value> =
        inputs.results.iter().map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest}})).collect();
    let loaded = |signature| json!({"name": "vmlinux, loaded sections", "digest": {"blake3": signature}});
    subjects.extend(build.elf_signature.as_ref().map(loaded));
    let sources = Material::all(&build.source).into_iter();
    let mut materials: Vec<Value> =
        sources.map(|source| json!({"name": source.name, "uri": source.uri, "digest": source.digest})).collect();
    materials.extend(inputs.compatibility.iter().filter_map(|patch| material(patch, "compatibility")));
    materials.extend(inputs.patches.iter().filter_map(|patch| material(patch, "patch")));
    materials.extend(
        build.configuration.fragments.iter().map(
            |fragment| json!({"name": fragment.path, "digest": {"blake3": fragment.blake3}, "annotations": {"role": "configuration"}}),
        ),
    );
    if let (Some(base), Some(key)) = (&build.base, &build.base_key) {
        materials.push(json!({"name": base, "digest": {"hangproofKey": key}, "annotations": {"role": "built tree"}}));
    }
    let changes: Vec<&str> = build.compatibility.iter().map(|applied| applied.change.as_str()).collect();
    let mut version = json!({"hangproof": hangproof});
    let mut internal = json!({"settings": build.settings, "compatibility": changes});
    if let Some(tools) = &build.toolchain {
        version = json!({"hangproof": hangproof, "compiler": tools.compiler, "binutils": tools.binutils, "make": tools.make});
        internal["command"] = json!(tools.command);
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "kernel": build.kernel,
                    "configuration": build.configuration.base,
                    "patches": build.patches.iter().map(|patch| &patch.path).collect::<Vec<_>>(),
                },
                "internalParameters": internal,
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": version,
                },
                "metadata": {"invocationId": build.key},
                "byproducts": [{"name": "config", "digest": {"blake3": build.configuration.config_blake3}}],
            },
        },
    })
}

/// None for a change that is no file; it is among the internal parameters.
fn material(patch: &Patch, role: &str) -> Option<Value> {
    let mut digest = json!({"blake3": patch.blake3.as_ref()?});
    if let Some(sha256) = &patch.sha256 {
        digest["sha256"] = json!(sha256);
    }
    Some(json!({"name": patch.name, "digest": digest, "annotations": {"role": role, "commits": patch.commits}}))
}
