//! What of a spec file's shell script patches, and what only looks like it.

use super::bench::{Bench, FILE, SPEC};

const HOOK: &str = "ApplyOptionalPatch debrand.patch";

/// What is said of the good package with other lines in the place of its last hook; rpmbuild would run some of them.
async fn said(bench: &Bench, lines: &str) -> Result<(), String> {
    let package = bench.package();
    let mut files = bench.files();
    files.push(("kernel.spec", SPEC.replacen(HOOK, lines, 1).into_bytes()));
    bench.replace_payload(&package, &files);
    bench.fetch(&bench.srpm()).await.map(|_| ()).map_err(|error| error.to_string())
}

fn refusal(line: usize, why: &str) -> Result<(), String> {
    let hook = SPEC.lines().position(|line| line == HOOK).unwrap() + 1;
    Err(format!("{FILE}, kernel.spec line {}: {why}; bring a patched tree with --source KERNEL=FOLDER", hook + line))
}

#[tokio::test]
async fn what_patches_is_refused_however_it_is_run() {
    let bench = Bench::new();
    for lines in [
        "foo) patch -p1 < x ;;",
        "%{__git} am x",
        "cd . && git -C . am x",
        "cd . && git --git-dir=x apply y",
        "ls | xargs -n 1 patch -p1 -i",
        "find . -exec git apply {} \\;",
        "%{?x:patch -p1 <y}",
        "%{!?x:patch -p1 <y}",
        "%{?x:echo a} %{!?x:patch -p1 <y}",
        "%{?x:nice} patch -p1 <y",
        "%{?x:%{?y:patch} -p1} <z",
        "cd . && git %{?x:-q} am y",
        "sudo -u root patch -p1 <x",
        "<x patch -p1",
        "2>/dev/null >y patch -p1 <x",
        "env A=b patch -p1 <x",
        "nice -n 5 patch -p1 <x",
        "$SUDO patch -p1 <x",
        "bash -c 'cd . && patch -p1 <x'",
        "eval git am x",
        "echo \"$(patch -p1 <x)\"",
        "echo \"`git am x`\"",
        "$(command -v patch) -p1 <x",
        "\\patch -p1 <x",
        "\"$PATCH\" -p1 <x",
        "P='patch -p1'; $P <x",
        "cat x | { patch -p1; }",
        "cd . && git \\\n  am x",
        "cat x |\npatch -p1",
        "[ -f x ] &&\nApplyPatch debrand.patch",
        "true & patch -p1 <x",
        "cat x | patch -p1 \\",
        "echo a # x |\npatch -p1 <x",
        "echo a # x \\\npatch -p1 <x",
    ] {
        assert_eq!(said(&bench, lines).await, refusal(0, "it applies a patch within another command"), "{lines}");
    }
    // An apostrophe in a here-document is none of the shell's.
    let here = "cat >x <<END\nit's\nEND\necho 'x' ; patch -p1 <y";
    assert_eq!(said(&bench, here).await, refusal(3, "it applies a patch within another command"));
    let function = "the function f applies a patch, and only ApplyPatch and ApplyOptionalPatch are understood";
    for (lines, line, why) in [
        ("f() { patch -p1 <x; }", 0, function),
        ("f() { patch -p1 <x\n}", 0, function),
        ("f ()\n{\n  patch -p1 <${1}\n}", 2, function),
        ("f() {\n  :\n  }\npatch -p1 <x", 3, "it applies a patch within another command"),
        ("f() {\n  :\n} && patch -p1 <x", 2, function),
        ("ApplyPatch() {\n  $patch_command <$1\n} && patch -p1 <${x}", 2, "it applies a patch within another command"),
        ("ApplyPatch() {\n  $patch_command <$1\n  }\npatch -p1 <x", 3, "it applies a patch within another command"),
        ("ApplyPatch()\n(\n  $patch_command <$1\n)", 2, "it applies a patch within another command"),
        ("f()\n(\n  patch -p1 <x\n)", 2, "it applies a patch within another command"),
        ("[ -f x ] || {\nApplyPatch debrand.patch\n}", 1, "ApplyPatch depends on a condition of the shell"),
        ("(cd x\nApplyPatch debrand.patch\n)", 1, "ApplyPatch depends on a condition of the shell"),
    ] {
        assert_eq!(said(&bench, lines).await, refusal(line, why), "{lines}");
    }
}

/// A macro is what it stands for, and a script of the package what its lines say.
#[tokio::test]
async fn what_patches_is_refused_wherever_it_is_written() {
    let bench = Bench::new();
    let within = "it applies a patch within another command";
    for (lines, line) in [
        ("%define apply patch -p1 <x\n%apply", 1),
        ("%global apply() patch -p1 <%1\n%apply x", 1),
        ("%define inner git am\n%define outer cd . && %{inner} x\ncd . && %{?outer}", 2),
        ("%define apply %{expand:%(patch -p1 <x)}\n%{?apply}", 1),
        ("%define many cd . \\\n&& patch -p1 <x\n%many", 2),
    ] {
        assert_eq!(said(&bench, lines).await, refusal(line, within), "{lines}");
    }
    for (lines, script, line) in [
        ("sh %{SOURCE7}", "#!/bin/sh\necho a\ncd x && patch -p1 <y\n", 3),
        ("%{S:7} a", "patch -p1 <y\n", 1),
        ("X=1 ./prepare.sh", "#!/bin/bash -e\nfor p in *; do git am $p; done\n", 2),
        (". $RPM_SOURCE_DIR/prepare.sh", "f() {\n  xzcat x | patch -p1\n}\n", 2),
        ("python3 %{_sourcedir}/prepare.sh a", "#!/usr/bin/python3\nimport os\nos.system('patch -p1 <x')\n", 3),
    ] {
        let spec = |lines: &str| SPEC.replacen(HOOK, lines, 1).replacen("Patch1000:", "Source7: prepare.sh\nPatch1000:", 1);
        let package = bench.package();
        let mut files = bench.files();
        files.extend([("kernel.spec", spec(lines).into_bytes()), ("prepare.sh", script.as_bytes().to_vec())]);
        bench.replace_payload(&package, &files);
        let said = bench.fetch(&bench.srpm()).await.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(said, refusal(1, &format!("it runs prepare.sh, whose line {line} applies a patch")), "{lines}");
        // The same lines that patch nothing, or nothing that runs them.
        for (lines, script) in [(lines, "#!/bin/sh\n# patch -p1\necho patch\n"), ("cp %{SOURCE7} .", script)] {
            let package = bench.package();
            let mut files = bench.files();
            files.extend([("kernel.spec", spec(lines).into_bytes()), ("prepare.sh", script.as_bytes().to_vec())]);
            bench.replace_payload(&package, &files);
            bench.fetch(&bench.srpm()).await.unwrap();
        }
    }
}

/// What changes the tree otherwise is no patch that we could leave out without a word, and none that we could apply.
#[tokio::test]
async fn what_changes_the_tree_otherwise_is_told() {
    let bench = Bench::new();
    let fetch = async |lines: &str| {
        let spec = SPEC.replacen(HOOK, lines, 1).replacen("Patch1000:", "Source7: prepare.sh\nPatch1000:", 1);
        let package = bench.package();
        let mut files = bench.files();
        files.extend([("kernel.spec", spec.into_bytes()), ("prepare.sh", b"#!/bin/sh\necho a\n".to_vec())]);
        bench.replace_payload(&package, &files);
        bench.fetch_warned(&bench.srpm()).await
    };
    let place = SPEC.lines().position(|line| line == HOOK).unwrap() + 2;
    for (line, told) in [
        ("sed -i 's/a/b/' mm/filemap.c", None),
        ("perl -p -i -e 's/a/b/' Makefile", None),
        ("if true; then cp %{SOURCE7} mm/filemap.c; fi", None),
        ("tar xf $RPM_SOURCE_DIR/more.tar.xz", None),
        ("sh %{SOURCE7}", Some("runs prepare.sh")),
        ("find . -name '*.c' -exec sed -i s/a/b/ {} +", None),
    ] {
        let (fetched, warnings) = fetch(line).await;
        fetched.unwrap();
        let told = told.unwrap_or(line);
        let expected = format!(
            "{FILE}: what its spec file does beside patching is not repeated, and may make another kernel: kernel.spec line {place}: {told}"
        );
        assert_eq!(warnings, [expected], "{line}");
    }
    for line in ["cp $RPM_SOURCE_DIR/kernel-%{version}-*.config .", "sed -i 's/a/b/' kernel-x.config", "sed 's/a/b/' x >y", "mv a b"] {
        let (fetched, warnings) = fetch(line).await;
        fetched.unwrap();
        assert_eq!(warnings, [] as [String; 0], "{line}");
    }
    for (line, why) in [
        ("%include %{SOURCE7}", "`%include` reads another file"),
        ("%setup -q -T -D -a 7", "`%setup` unpacks another source than the first, or none"),
    ] {
        assert_eq!(said(&bench, line).await, refusal(0, why), "{line}");
    }
}

/// One that is listed among the patches is a script all the same.
#[tokio::test]
async fn a_script_among_the_patches_is_looked_at() {
    let bench = Bench::new();
    let package = bench.package();
    let mut files = bench.with("debrand.patch", b"for p in a; do patch -p1 <$p; done\n");
    files.push(("kernel.spec", SPEC.replacen(HOOK, "sh $RPM_SOURCE_DIR/debrand.patch", 1).into_bytes()));
    bench.replace_payload(&package, &files);
    let said = bench.fetch(&bench.srpm()).await.map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(said, refusal(0, "it runs debrand.patch, whose line 1 applies a patch"));
}

#[tokio::test]
async fn what_only_mentions_a_patch_is_no_matter() {
    let bench = Bench::new();
    for lines in [
        "cp ${patch} .",
        "%define note the patch is there\necho %{note}",
        "%define debug_package %{nil}\n%{?debug_package}",
        "[ -f \"${patch}\" ]",
        "echo \"(patch 1)\"",
        "echo 'x; patch; git am'",
        "echo x # ; patch",
        "command -v patch",
        "if command -v patch >/dev/null; then :; fi",
        "cp x.patch y",
        "rm -f patch.log",
        "%{__rm} -f patch",
        "for patch in *.patch; do echo $patch; done",
        "find . \\( -name patch -o -name '*~' \\) -exec rm -f {} \\; >/dev/null",
        "case \"$patch\" in\n  *.bz2) bunzip2 <$patch | wc -l ;;\nesac",
        "echo a \\\n  patch",
        "echo $(date) patch",
        "local patch=$1",
        "f() {\n  echo ${1}\n}",
        "chmod +x scripts/checkpatch.pl",
        "if [ `echo a | grep -c patch` -eq 0 ]; then\n  :\nfi",
    ] {
        // A hook after them is still one that no condition is around.
        assert_eq!(said(&bench, &format!("{lines}\n{HOOK}")).await, Ok(()), "{lines}");
    }
}
