//! Synthetic camera-trap scenes with ground truth, where no data is at hand: a landscape by time of
//! day, an animal or a human in it or nothing at all, and what a cheap camera makes of that. The same
//! seed gives the same bytes.
//!
//! Scenes are painted at a third of the final size (edges in real trap images are no sharper), then
//! scaled to 1920x1080, given sensor noise and encoded as JPEG of about 0.2 MB, like the images of the
//! paper (section 4.1; 0.212 MB each). Knows nothing of models or of the function contract.

mod camera;
mod canvas;
mod creature;
mod landscape;
mod package;

pub use camera::CameraError;
pub use package::{PackageError, PackageOptions, Summary, write_package};

use camera::Camera;
use canvas::Canvas;
use creature::{Creature, Placement};
use landscape::{Landscape, Textures};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What a scene shows: the paper's five classes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A bird, standing, pecking or flying.
    Bird,
    /// A fox.
    Fox,
    /// A squirrel or a rat.
    Rodent,
    /// A walking human.
    Human,
    /// Vegetation only.
    Empty,
}

impl Class {
    /// All classes, in the paper's order.
    pub const ALL: [Self; 5] = [
        Self::Bird,
        Self::Fox,
        Self::Rodent,
        Self::Human,
        Self::Empty,
    ];

    /// The label: `bird`, `fox`, `rodent`, `human`, `empty`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Fox => "fox",
            Self::Rodent => "rodent",
            Self::Human => "human",
            Self::Empty => "empty",
        }
    }
}

/// Light at the time of the exposure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// Low and warm.
    Dawn,
    /// Sun.
    Day,
    /// Clouds.
    Overcast,
    /// Low and red.
    Dusk,
    /// Infrared flash: no colour, bright in the middle, eyes shine.
    Night,
}

/// Ground truth of one scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Name of the image in the package.
    pub file: String,
    /// What it shows.
    pub label: Class,
    /// Light.
    pub light: Light,
    /// Box of the creature as x, y, width, height in shares of the image, as MegaDetector gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f32; 4]>,
}

/// Makes scenes. Sharing one among threads is fine: a scene depends on seed and index alone.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    width: usize,
    height: usize,
    textures: Textures,
    camera: Camera,
}

impl Generator {
    /// A generator of 1920x1080 scenes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_size(seed, 1920, 1080)
    }

    /// A generator of scenes of another size in pixels; sizes are raised to 48 at least.
    #[must_use]
    pub fn with_size(seed: u64, width: usize, height: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            seed,
            width: width.max(48),
            height: height.max(48),
            textures: Textures::new(&mut rng),
            camera: Camera::new(&mut rng),
        }
    }

    /// Makes scene `index` as a JPEG, and its truth under the name `file`.
    ///
    /// # Errors
    /// When the picture cannot be scaled or encoded, which means memory ran out.
    pub fn scene(
        &self,
        index: u64,
        class: Class,
        file: String,
    ) -> Result<(Vec<u8>, Truth), CameraError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index + 1);
        let light = light(&mut rng, class);
        let mut canvas = Canvas::new(self.width / 3, self.height / 3);
        let land = Landscape::new(&mut rng, light);
        land.paint(&mut canvas, &self.textures, &mut rng, light);
        let (extent, depth) = match self.creature(&mut rng, class) {
            Some(creature) => self.add(&mut rng, &mut canvas, &land, &creature, class, light),
            None => (None, 0.5),
        };
        land.front(&mut canvas, &self.textures, &mut rng, depth);
        let bbox = extent.map(|e| {
            let (w, h) = (canvas.width as f32, canvas.height as f32);
            [e[0] / w, e[1] / h, (e[2] - e[0]) / w, (e[3] - e[1]) / h]
        });
        let jpeg = self
            .camera
            .expose(&mut canvas, &mut rng, light, self.width, self.height)?;
        Ok((
            jpeg,
            Truth {
                file,
                label: class,
                light,
                bbox,
            },
        ))
    }

    fn creature(&self, rng: &mut ChaCha8Rng, class: Class) -> Option<Creature> {
        match class {
            Class::Bird => Some(creature::bird(rng)),
            Class::Fox => Some(creature::fox(rng)),
            Class::Rodent => Some(creature::rodent(rng)),
            Class::Human => Some(creature::human(rng)),
            Class::Empty => None,
        }
    }

    /// Puts a creature somewhere it can be seen; gives its box in pixels and its depth.
    fn add(
        &self,
        rng: &mut ChaCha8Rng,
        canvas: &mut Canvas,
        land: &Landscape,
        creature: &Creature,
        class: Class,
        light: Light,
    ) -> (Option<[f32; 4]>, f32) {
        let height = canvas.height as f32;
        // Size in shares of the image's height: near creatures are larger and stand lower.
        let (small, large) = match class {
            Class::Bird => (0.14, 0.46),
            Class::Fox => (0.18, 0.48),
            Class::Rodent => (0.13, 0.40),
            Class::Human => (0.38, 0.95),
            Class::Empty => (0.0, 0.0),
        };
        let near: f32 = rng.random_range(0.0..1.0);
        let scale = (small + (large - small) * near * near) * height;
        let depth = (0.25 + 0.6 * near + rng.random_range(-0.12..0.12)).clamp(0.12, 0.98);
        let row = if creature.flying {
            height * rng.random_range(0.25..0.6) + scale * 0.5
        } else {
            land.depth_row(canvas, depth).max(scale * 0.75)
        };
        let margin = (scale * 0.35).min(canvas.width as f32 * 0.3);
        let x = rng.random_range(margin..canvas.width as f32 - margin);
        let placement = Placement {
            at: [x, row],
            scale,
            mirrored: rng.random_bool(0.5),
            tilt: rng.random_range(-0.10..0.10),
            light: land.brightness * rng.random_range(0.75..1.1),
            haze: 0.25 * (1.0 - near).powi(2),
            haze_colour: land.haze,
            soft: if rng.random_bool(0.15) {
                rng.random_range(1.5..4.0)
            } else {
                1.0
            },
            flash: light == Light::Night,
        };
        (
            creature::place(canvas, &self.textures.fine, creature, &placement),
            depth,
        )
    }
}

/// Chance of each light, by habits: birds and humans mostly by day, foxes and rodents also at night.
fn light(rng: &mut ChaCha8Rng, class: Class) -> Light {
    let night = match class {
        Class::Bird => 0.06,
        Class::Human => 0.15,
        Class::Empty => 0.30,
        Class::Rodent => 0.35,
        Class::Fox => 0.45,
    };
    if rng.random_bool(night) {
        return Light::Night;
    }
    match rng.random_range(0..10) {
        0 => Light::Dawn,
        1 => Light::Dusk,
        2..=4 => Light::Overcast,
        _ => Light::Day,
    }
}
