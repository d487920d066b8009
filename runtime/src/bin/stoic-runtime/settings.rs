//! What a model takes and gives, from the JSON file beside it. Unknown keys are errors.

use serde::Deserialize;
use std::path::Path;
use stoic_protocol::Problem;

/// The file's content; every key may be left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Width and height to which images are resized, in pixels.
    pub(crate) size: [u32; 2],
    /// Per channel, in the pixels' own range 0 to 255: `x = (pixel - mean) * scale`.
    pub(crate) mean: [f32; 3],
    pub(crate) scale: [f32; 3],
    /// Names of the classes, in the model's order.
    pub(crate) classes: Vec<String>,
    /// How many classes an answer names.
    pub(crate) top: usize,
    /// Whether the outputs are logits that softmax turns into scores.
    pub(crate) softmax: bool,
    /// Shape of an input of numbers, for a model that takes no images: the first run is made with it.
    pub(crate) shape: Option<Vec<i64>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: [224, 224],
            // ImageNet's, as torchvision's models want them.
            mean: [123.675, 116.28, 103.53],
            scale: [1.0 / 58.395, 1.0 / 57.12, 1.0 / 57.375],
            classes: Vec::new(),
            top: 5,
            softmax: true,
            shape: None,
        }
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(500, "settings_invalid", detail)
}

impl Settings {
    /// Reads the named files, or the one beside the model where there is one.
    pub(crate) fn read(
        model: &Path,
        named: Option<&Path>,
        classes: Option<&Path>,
    ) -> Result<Self, Problem> {
        let beside = model.with_extension("json");
        let file =
            named.or_else(|| (beside != model && beside.exists()).then_some(beside.as_path()));
        let mut settings = match file {
            None => Self::default(),
            Some(file) => {
                let text = read(file)?;
                serde_json::from_str(&text)
                    .map_err(|error| invalid(format!("{}: {error}", file.display())))?
            }
        };
        if let Some(file) = classes {
            settings.classes = read(file)?.lines().map(str::to_owned).collect();
        }
        settings.validated()
    }

    fn validated(self) -> Result<Self, Problem> {
        if self.size.iter().any(|side| !(1..=4096).contains(side)) {
            return Err(invalid(format!(
                "size {:?}: sides are 1 to 4096",
                self.size
            )));
        }
        if let Some(shape) = &self.shape {
            crate::numbers::elements(shape)
                .map_err(|detail| invalid(format!("shape: {detail}")))?;
        }
        Ok(self)
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| invalid(format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_or_a_wrong_value_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.pt");
        assert_eq!(Settings::read(&model, None, None).unwrap().size, [224, 224]);
        for (text, word) in [
            (r#"{"clases": []}"#, "clases"),
            (r#"{"size": [0, 5]}"#, "size"),
            (r#"{"shape": [-1]}"#, "shape"),
            ("{", "m.json"),
        ] {
            std::fs::write(folder.path().join("m.json"), text).unwrap();
            let problem = Settings::read(&model, None, None).unwrap_err();
            assert!(problem.detail.unwrap().contains(word), "{text}");
        }
    }
}
