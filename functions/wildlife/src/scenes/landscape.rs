//! The place a camera looks at: sky, hills, trees, bushes, ground and grass, by time of day.

use super::Light;
use super::canvas::{Canvas, Colour, Noise, Shape, mix, shade, vary};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// What is chosen once for a place.
#[derive(Debug)]
pub(super) struct Landscape {
    /// Row of the horizon, as a share of the height.
    pub(super) horizon: f32,
    /// Brightness of sunlit things.
    pub(super) brightness: f32,
    /// Colour of the haze in the distance.
    pub(super) haze: Colour,
    grass: Colour,
    soil: Colour,
    leaf: Colour,
    /// Sideways pull of the wind on a blade, as a share of its height.
    wind: f32,
    /// How tall grass grows, as a share of the canvas.
    growth: f32,
    offset: [i32; 2],
}

/// Tiles of noise shared by all scenes of a generator.
#[derive(Debug)]
pub(super) struct Textures {
    /// Large soft shapes: clouds, patches of soil, crowns.
    pub(super) broad: Noise,
    /// Leaves, litter, fur.
    pub(super) fine: Noise,
}

impl Textures {
    /// Makes the tiles (some 20 ms).
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            broad: Noise::new(rng, 256, 6, 0.55),
            fine: Noise::new(rng, 16, 5, 0.85),
        }
    }
}

impl Landscape {
    /// Chooses a place.
    pub(super) fn new(rng: &mut ChaCha8Rng, light: Light) -> Self {
        let brightness = match light {
            Light::Dawn | Light::Dusk => rng.random_range(0.45..0.75),
            Light::Day => rng.random_range(0.85..1.12),
            Light::Overcast => rng.random_range(0.60..0.85),
            Light::Night => 0.9,
        };
        let grasses: [Colour; 4] = [
            [0.36, 0.44, 0.18],
            [0.55, 0.50, 0.28],
            [0.28, 0.38, 0.17],
            [0.62, 0.55, 0.36],
        ];
        let soils: [Colour; 4] = [
            [0.42, 0.33, 0.23],
            [0.52, 0.44, 0.34],
            [0.34, 0.29, 0.24],
            [0.58, 0.50, 0.40],
        ];
        let leaves: [Colour; 3] = [[0.17, 0.26, 0.11], [0.25, 0.31, 0.16], [0.30, 0.29, 0.15]];
        let haze = match light {
            Light::Dawn => [0.72, 0.60, 0.58],
            Light::Dusk => [0.62, 0.48, 0.42],
            Light::Day => [0.72, 0.79, 0.86],
            Light::Overcast => [0.68, 0.70, 0.72],
            Light::Night => [0.06, 0.06, 0.06],
        };
        let (grass, soil, leaf) = (
            rng.random_range(0..4),
            rng.random_range(0..4),
            rng.random_range(0..3),
        );
        Self {
            horizon: rng.random_range(0.10..0.48),
            brightness,
            haze: vary(rng, haze, 0.08),
            grass: vary(rng, grasses[grass], 0.2),
            soil: vary(rng, soils[soil], 0.2),
            leaf: vary(rng, leaves[leaf], 0.25),
            wind: rng.random_range(-0.5..0.5),
            growth: rng.random_range(0.02..0.11),
            offset: [rng.random_range(0..1024), rng.random_range(0..1024)],
        }
    }

    /// Paints everything that stands behind a creature.
    pub(super) fn paint(
        &self,
        canvas: &mut Canvas,
        t: &Textures,
        rng: &mut ChaCha8Rng,
        light: Light,
    ) {
        self.sky(canvas, t, light);
        self.ground(canvas, t, rng);
        for layer in 0..rng.random_range(1..=3) {
            self.tree_line(canvas, t, rng, layer);
        }
        for _ in 0..rng.random_range(0..4) {
            self.trunk(canvas, t, rng);
        }
        for _ in 0..rng.random_range(2..9) {
            let depth = rng.random_range(0.02..0.5);
            self.bush(canvas, t, rng, depth);
        }
        for _ in 0..rng.random_range(0..4) {
            self.stone(canvas, t, rng);
        }
        let tufts = rng.random_range(150..700);
        self.grass(canvas, rng, tufts, 0.0, 0.75);
    }

    /// Paints what may stand in front of a creature: grass near the camera, now and then a branch.
    pub(super) fn front(
        &self,
        canvas: &mut Canvas,
        t: &Textures,
        rng: &mut ChaCha8Rng,
        depth: f32,
    ) {
        let blades = rng.random_range(20..260);
        self.grass(canvas, rng, blades, depth.max(0.4), 1.02);
        if rng.random_bool(0.2) {
            self.bush(canvas, t, rng, 0.95);
        }
    }

    fn sky(&self, canvas: &mut Canvas, t: &Textures, light: Light) {
        let (top, low, cloud): (Colour, Colour, Colour) = match light {
            Light::Dawn => ([0.42, 0.50, 0.66], [0.93, 0.74, 0.62], [0.90, 0.78, 0.74]),
            Light::Day => ([0.36, 0.56, 0.84], [0.78, 0.87, 0.94], [0.97, 0.97, 0.98]),
            Light::Overcast => ([0.70, 0.72, 0.75], [0.82, 0.83, 0.84], [0.90, 0.90, 0.91]),
            Light::Dusk => ([0.30, 0.30, 0.46], [0.90, 0.56, 0.36], [0.60, 0.44, 0.44]),
            Light::Night => ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03], [0.03, 0.03, 0.03]),
        };
        let end = (self.horizon * canvas.height as f32) as usize + 1;
        for y in 0..end.min(canvas.height) {
            let base = mix(top, low, y as f32 / end as f32);
            for x in 0..canvas.width {
                let n = t
                    .broad
                    .at(x as i32 + self.offset[0], y as i32 * 2 + self.offset[1]);
                canvas.pixels[y * canvas.width + x] = mix(base, cloud, (n * 1.4).clamp(0.0, 1.0));
            }
        }
    }

    fn ground(&self, canvas: &mut Canvas, t: &Textures, rng: &mut ChaCha8Rng) {
        let start = (self.horizon * canvas.height as f32) as usize;
        let cover = rng.random_range(-0.5..0.5f32);
        let path = rng.random_range(0.15..0.85) * canvas.width as f32;
        let path_width = if rng.random_bool(0.4) {
            rng.random_range(0.05..0.25)
        } else {
            0.0
        };
        let bend = rng.random_range(-0.6..0.6) * canvas.width as f32;
        for y in start..canvas.height {
            let near = (y - start) as f32 / (canvas.height - start).max(1) as f32;
            // Patches shrink with distance, in both directions.
            let stretch = 1.0 / (0.3 + near);
            let haze = (1.0 - near).powi(3) * 0.45;
            let middle = path + bend * (1.0 - near).powi(2);
            let half = path_width * canvas.width as f32 * (0.1 + near);
            let (row_broad, row_fine) = ((stretch * 420.0) as i32, (stretch * 640.0) as i32);
            for x in 0..canvas.width {
                let away = (x as f32 - middle) * stretch * 0.8;
                let broad = t
                    .broad
                    .at(away as i32 + self.offset[0], row_broad + self.offset[1]);
                let fine = t.fine.at(
                    (away * 1.5) as i32 + self.offset[1],
                    row_fine + self.offset[0],
                );
                let mut green = ((broad + 0.35 * fine + cover) * 1.6 + 0.5).clamp(0.0, 1.0);
                if half > 0.0 {
                    green *= (((x as f32 - middle).abs() - half) / (half + 4.0)).clamp(0.0, 1.0);
                }
                let colour = mix(self.soil, self.grass, green);
                let k = self.brightness * (0.85 + 0.15 * near) * (1.0 + 0.28 * fine + 0.12 * broad);
                canvas.pixels[y * canvas.width + x] = mix(shade(colour, k), self.haze, haze);
            }
        }
    }

    fn tree_line(&self, canvas: &mut Canvas, t: &Textures, rng: &mut ChaCha8Rng, layer: i32) {
        let near = layer as f32 / 3.0;
        let foot = (self.horizon + 0.05 * near) * canvas.height as f32;
        let tall = rng.random_range(0.04..0.30) * canvas.height as f32 * (0.6 + near);
        let shift = rng.random_range(0..1024);
        let zoom = rng.random_range(0.5..2.0f32);
        let leaf = vary(rng, self.leaf, 0.15);
        let haze = 0.45 * (1.0 - near);
        for x in 0..canvas.width {
            let n = t
                .broad
                .at((x as f32 * zoom) as i32 + shift, shift + layer * 97);
            let ragged = t.fine.at(x as i32 * 2 + shift, layer * 31);
            let top = foot - tall * (0.55 + 0.6 * n + 0.12 * ragged);
            for y in (top.max(0.0) as i32)..(foot as i32) {
                let texture =
                    t.fine.at(x as i32 * 2 + shift, y * 2) + 0.5 * t.broad.at(x as i32 * 4, y * 4);
                let lit = 1.0 - 0.45 * (y as f32 - top) / tall.max(1.0);
                let colour = shade(leaf, self.brightness * lit * (1.0 + 0.45 * texture));
                canvas.blend(x as i32, y, mix(colour, self.haze, haze), 1.0);
            }
        }
    }

    fn trunk(&self, canvas: &mut Canvas, t: &Textures, rng: &mut ChaCha8Rng) {
        let near = rng.random_range(0.05..0.8f32);
        let y = self.depth_row(canvas, near);
        let x = rng.random_range(0.0..1.0) * canvas.width as f32;
        let thick = rng.random_range(0.006..0.03) * canvas.width as f32 * (0.3 + near);
        let lean = rng.random_range(-0.12..0.12) * canvas.height as f32;
        let barks: [Colour; 3] = [[0.30, 0.24, 0.19], [0.42, 0.39, 0.36], [0.24, 0.19, 0.14]];
        let bark = barks[rng.random_range(0..3)];
        let bark = vary(rng, bark, 0.2);
        let shape = Shape::Capsule {
            a: [x, y],
            b: [x + lean, -20.0],
            ra: thick,
            rb: thick * 0.7,
        };
        let haze = 0.3 * (1.0 - near);
        canvas.fill(&shape, 1.2, |px, py| {
            let side = ((px as f32 - x) / thick).clamp(-1.0, 1.0);
            let grain = t.fine.at(px * 4, py / 2);
            let k = self.brightness * (0.85 - 0.35 * side) * (1.0 + 0.35 * grain);
            (mix(shade(bark, k), self.haze, haze), 1.0)
        });
    }

    fn bush(&self, canvas: &mut Canvas, t: &Textures, rng: &mut ChaCha8Rng, depth: f32) {
        let y = self.depth_row(canvas, depth);
        let x = rng.random_range(-0.05..1.05) * canvas.width as f32;
        let size = rng.random_range(0.04..0.14) * canvas.height as f32 * (0.4 + depth);
        let leaf = vary(rng, mix(self.leaf, self.grass, 0.4), 0.25);
        let haze = 0.35 * (1.0 - depth).powi(2);
        let shift = rng.random_range(0..1024);
        for _ in 0..rng.random_range(3..7) {
            let centre = [
                x + rng.random_range(-1.2..1.2) * size,
                y - rng.random_range(0.2..0.9) * size,
            ];
            let radii = [
                size * rng.random_range(0.5..1.0),
                size * rng.random_range(0.4..0.8),
            ];
            let shape = Shape::Ellipse {
                centre,
                radii,
                turn: [1.0, 0.0],
            };
            canvas.fill(&shape, 3.0, |px, py| {
                let n =
                    t.fine.at(px * 3 + shift, py * 3) + 0.4 * t.broad.at(px * 5, py * 5 + shift);
                let lit = 1.0 - 0.4 * ((py as f32 - centre[1]) / radii[1]);
                let edge = (((px as f32 - centre[0]) / radii[0]).powi(2)
                    + ((py as f32 - centre[1]) / radii[1]).powi(2))
                .sqrt();
                let opacity = ((1.15 - edge) * 3.0 + n).clamp(0.0, 1.0);
                let k = self.brightness * lit * (0.8 + 0.6 * n);
                (mix(shade(leaf, k.max(0.05)), self.haze, haze), opacity)
            });
        }
    }

    fn stone(&self, canvas: &mut Canvas, t: &Textures, rng: &mut ChaCha8Rng) {
        let depth = rng.random_range(0.05..0.9f32);
        let y = self.depth_row(canvas, depth);
        let x = rng.random_range(0.0..1.0) * canvas.width as f32;
        let size = rng.random_range(0.01..0.06) * canvas.height as f32 * (0.4 + depth);
        let grey = vary(rng, [0.48, 0.46, 0.43], 0.25);
        let log = rng.random_bool(0.4);
        let shape = if log {
            let length = size * rng.random_range(3.0..8.0);
            let rise = rng.random_range(-0.3..0.3) * size;
            Shape::Capsule {
                a: [x, y],
                b: [x + length, y + rise],
                ra: size * 0.5,
                rb: size * 0.4,
            }
        } else {
            let radii = [
                size * rng.random_range(0.8..1.8),
                size * rng.random_range(0.5..0.9),
            ];
            Shape::Ellipse {
                centre: [x, y - radii[1] * 0.5],
                radii,
                turn: [1.0, 0.0],
            }
        };
        let colour = if log {
            mix(self.soil, [0.25, 0.20, 0.16], 0.5)
        } else {
            grey
        };
        canvas.fill(&shape, 1.5, |px, py| {
            let lit = 1.05 - 0.5 * ((py as f32 - (y - size)) / (2.0 * size)).clamp(0.0, 1.0);
            (
                shade(
                    colour,
                    self.brightness * lit * (1.0 + 0.3 * t.fine.at(px * 3, py * 3)),
                ),
                1.0,
            )
        });
    }

    /// Blades between two depths; the wind bends them alike, each a little differently.
    fn grass(&self, canvas: &mut Canvas, rng: &mut ChaCha8Rng, blades: i32, from: f32, to: f32) {
        let mut roots: Vec<f32> = (0..blades).map(|_| rng.random_range(from..to)).collect();
        roots.sort_by(f32::total_cmp);
        let mut tuft = 0.0f32;
        for depth in roots {
            if rng.random_bool(0.25) || tuft == 0.0 {
                tuft = rng.random_range(0.0..1.0) * canvas.width as f32;
            }
            let spread = 14.0 + 30.0 * depth;
            let x = tuft + rng.random_range(-spread..spread);
            let y = self.depth_row(canvas, depth);
            let height = self.growth
                * canvas.height as f32
                * (0.15 + depth * 1.2)
                * rng.random_range(0.5..1.6);
            let lean = height * (self.wind + rng.random_range(-0.35..0.35));
            let colour = vary(rng, self.grass, 0.3);
            let colour = shade(colour, self.brightness * rng.random_range(0.7..1.15));
            canvas.blade([x, y], height, 0.6 + 2.2 * depth, lean, colour);
        }
    }

    /// The row on which things at a depth stand: 0 = horizon, 1 = lower edge.
    pub(super) fn depth_row(&self, canvas: &Canvas, depth: f32) -> f32 {
        (self.horizon + (1.0 - self.horizon) * depth) * canvas.height as f32
    }
}
