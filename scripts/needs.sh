# What hangproof needs of a Debian machine; sourced by quickstart and test. It installs packages and nothing else, and sets no policy.

# Programs and headers, with the packages that bring them.
hangproof_packages="
gcc libc6-dev make flex bison bc perl libelf-dev libssl-dev pkg-config patch git curl kmod cpio xz-utils zstd
mmdebstrap bubblewrap uidmap tar gpgv
qemu-system-x86 user-mode-linux mdadm e2fsprogs busybox-static dropbear-bin fio util-linux openssh-client
"

# Installs what is missing, as root or with sudo; else says what to type and ends with 2.
install_missing() {
    missing=""
    for package in $hangproof_packages "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    # The kernel's source comes through apt too, so apt needs its lists even when nothing is missing.
    if [ -z "$missing" ] && apt-cache show linux-source-6.1 >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root="sudo"
    else
        echo "missing packages; as root, run:" >&2
        echo "  apt-get update${missing:+ && apt-get install --no-install-recommends -y$missing}" >&2
        exit 2
    fi
    $as_root apt-get update -qq || echo "warning: apt-get update failed; trying with the lists that are there" >&2
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # a list of words
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends -y -qq $missing >/dev/null || {
            echo "these packages could not be installed:$missing; as root, run:" >&2
            echo "  apt-get update && apt-get install --no-install-recommends -y$missing" >&2
            exit 2
        }
    fi
}

# Rust is not taken from Debian 12, whose compiler is too old. The caller's folder is the repository's.
need_cargo() {
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
        [ -x "$home/.cargo/bin/cargo" ] && PATH="$home/.cargo/bin:$PATH"
    done
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null 2>&1; then
        echo "cargo is missing: install Rust $wanted or later with rustup (https://rustup.rs)" >&2
        exit 2
    fi
    # `cargo 1.89.0 (...)`; rustup's has none if no toolchain is installed.
    found=$(cargo --version 2>/dev/null | cut -d ' ' -f 2)
    if ! dpkg --compare-versions "${found:-0}" ge "$wanted"; then
        echo "$(command -v cargo) is ${found:-of no version}, too old: install Rust $wanted or later with rustup (https://rustup.rs)" >&2
        exit 2
    fi
}
