//! Names of images.

/// An image as functions name it: `repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// With its tag: the engine takes none as all of them.
    pub(super) whole: String,
    /// Without tag and digest, as the engine shows it.
    repository: String,
    /// Whether it names one image for ever.
    pub(super) pinned: bool,
    /// Host of its registry; that of Docker's own has none.
    pub(super) registry: Option<String>,
}

impl Reference {
    /// Reads a name.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@')
        };
        let whole_parts = |text: &str| text.split('/').all(|part| !part.is_empty() && part != "..");
        let good = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 512
            && text.bytes().all(allowed)
            && whole_parts(text);
        if !good {
            let shown: String = text.chars().take(80).collect();
            return Err(format!("spec.image: `{shown}` is no name of an image"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        let registry = repository
            .split_once('/')
            .map(|(host, _)| host)
            .filter(|host| host.contains(['.', ':']) || *host == "localhost")
            .filter(|host| !matches!(*host, "docker.io" | "index.docker.io"));
        let mut familiar = repository;
        for prefix in ["index.docker.io/", "docker.io/", "library/"] {
            familiar = familiar.strip_prefix(prefix).unwrap_or(familiar);
        }
        if familiar.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!(
                "spec.image: `{text}`: the name of a repository has lower-case letters only"
            ));
        }
        let whole = match (tag, digest) {
            (None, None) => format!("{text}:latest"),
            _ => text.to_owned(),
        };
        Ok(Self {
            whole,
            repository: familiar.to_owned(),
            pinned: digest.is_some(),
            registry: registry.map(str::to_owned),
        })
    }

    /// The digests, among those that the engine knows of an image, that its registry gave it.
    pub(super) fn digests<'a>(&'a self, known: &'a [String]) -> impl Iterator<Item = &'a str> {
        known.iter().filter_map(|known| {
            let (repository, digest) = known.split_once('@')?;
            (repository == self.repository).then_some(digest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_engine_reads_them() {
        for (text, whole, repository, registry) in [
            ("debian", "debian:latest", "debian", None),
            (
                "docker.io/library/debian:12",
                "docker.io/library/debian:12",
                "debian",
                None,
            ),
            (
                "localhost:5000/a/b",
                "localhost:5000/a/b:latest",
                "localhost:5000/a/b",
                Some("localhost:5000"),
            ),
            (
                "ghcr.io/x/y:1",
                "ghcr.io/x/y:1",
                "ghcr.io/x/y",
                Some("ghcr.io"),
            ),
            ("user/app:2", "user/app:2", "user/app", None),
        ] {
            let read = Reference::parse(text).expect(text);
            assert_eq!((&*read.whole, &*read.repository), (whole, repository));
            assert_eq!(
                (read.registry.as_deref(), read.pinned),
                (registry, false),
                "{text}"
            );
        }
        let pinned = Reference::parse("a/b@sha256:00").expect("pinned");
        assert!(pinned.pinned && pinned.whole == "a/b@sha256:00");
        for bad in [
            "", "../x", "a/../b", "a b", "-x", "A/b", "a//b", "a?x=1", "ä",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_digests_of_its_own_registry_count() {
        let known = ["localhost:5000/a@sha256:1", "a@sha256:2"].map(str::to_owned);
        let read = Reference::parse("localhost:5000/a:1").expect("valid");
        assert_eq!(read.digests(&known).collect::<Vec<_>>(), ["sha256:1"]);
    }
}
