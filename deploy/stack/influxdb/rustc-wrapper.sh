#!/bin/sh
# Flux denies every warning, and compilers newer than the one it pins have new ones. Cargo caps the lints of crates
# from the registry alone, so this caps them for flux's own crates as well. RUSTFLAGS would not reach build scripts.
for argument in "$@"; do
  case "$argument" in
    --cap-lints | --cap-lints=*) exec "$@" ;;
  esac
done
exec "$@" --cap-lints warn
