//! Lets the binaries of this package find the libtorch they were linked with, without
//! `LD_LIBRARY_PATH`: first beside themselves (`../lib`, as in an image), then where it was at the
//! build. Packages that link this one do the same.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
