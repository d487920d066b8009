//! What scenes are painted on: a small picture in floating point, antialiased shapes, and tiles of
//! fractal noise. Knows nothing of animals or landscapes.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A colour in display space, each channel around 0..1.
pub(super) type Colour = [f32; 3];

/// Mixes `a` and `b`; `t` = 0 gives `a`.
pub(super) fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    [
        a[0] + (b[0] - a[0]) * t,
        a[1] + (b[1] - a[1]) * t,
        a[2] + (b[2] - a[2]) * t,
    ]
}

/// Scales a colour's brightness.
pub(super) fn shade(c: Colour, k: f32) -> Colour {
    [c[0] * k, c[1] * k, c[2] * k]
}

/// Varies a colour: brightness by up to `amount`, each channel by a third of that.
pub(super) fn vary(rng: &mut ChaCha8Rng, c: Colour, amount: f32) -> Colour {
    let k = 1.0 + rng.random_range(-amount..=amount);
    c.map(|v| (v * k * (1.0 + rng.random_range(-amount..=amount) / 3.0)).clamp(0.0, 1.0))
}

/// A tile of fractal noise, periodic in both directions, values in -1..1.
#[derive(Debug)]
pub(super) struct Noise {
    cells: Vec<f32>,
}

impl Noise {
    /// Width and height of the tile.
    pub(super) const SIDE: usize = 1024;

    /// Sums `octaves` of lattice noise whose coarsest cells are `coarsest` pixels wide (a power of
    /// two); each finer octave weighs `gain` of the former.
    pub(super) fn new(rng: &mut ChaCha8Rng, coarsest: usize, octaves: usize, gain: f32) -> Self {
        let side = Self::SIDE;
        let mut cells = vec![0.0f32; side * side];
        let mut weight = 1.0;
        let mut total = 0.0;
        for octave in 0..octaves {
            let cell = coarsest >> octave;
            if cell == 0 {
                break;
            }
            let n = side / cell;
            let lattice: Vec<f32> = (0..n * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            for y in 0..side {
                let (y0, fy) = (y / cell, smooth((y % cell) as f32 / cell as f32));
                let (row0, row1) = (y0 * n, (y0 + 1) % n * n);
                for x in 0..side {
                    let (x0, fx) = (x / cell, smooth((x % cell) as f32 / cell as f32));
                    let x1 = (x0 + 1) % n;
                    let top = lattice[row0 + x0] + (lattice[row0 + x1] - lattice[row0 + x0]) * fx;
                    let low = lattice[row1 + x0] + (lattice[row1 + x1] - lattice[row1 + x0]) * fx;
                    cells[y * side + x] += weight * (top + (low - top) * fy);
                }
            }
            total += weight * weight;
            weight *= gain;
        }
        // Octaves are independent: their squares add up.
        let scale = 1.2 / total.sqrt();
        for v in &mut cells {
            *v = (*v * scale).clamp(-1.0, 1.0);
        }
        Self { cells }
    }

    /// The value at a point; coordinates wrap around.
    pub(super) fn at(&self, x: i32, y: i32) -> f32 {
        let mask = Self::SIDE as i32 - 1;
        self.cells[((y & mask) * Self::SIDE as i32 + (x & mask)) as usize]
    }
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// A shape with a signed distance: negative inside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Around a segment, thick `ra` at `a` and `rb` at `b`.
    Capsule {
        a: [f32; 2],
        b: [f32; 2],
        ra: f32,
        rb: f32,
    },
    /// An ellipse turned by an angle given as (cosine, sine).
    Ellipse {
        centre: [f32; 2],
        radii: [f32; 2],
        turn: [f32; 2],
    },
    /// A triangle.
    Triangle { p: [[f32; 2]; 3] },
}

impl Shape {
    /// Left, top, right, bottom.
    pub(super) fn bounds(&self) -> [f32; 4] {
        match *self {
            Self::Capsule { a, b, ra, rb } => [
                (a[0] - ra).min(b[0] - rb),
                (a[1] - ra).min(b[1] - rb),
                (a[0] + ra).max(b[0] + rb),
                (a[1] + ra).max(b[1] + rb),
            ],
            Self::Ellipse { centre, radii, .. } => {
                let r = radii[0].max(radii[1]);
                [centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r]
            }
            Self::Triangle { p } => [
                p[0][0].min(p[1][0]).min(p[2][0]),
                p[0][1].min(p[1][1]).min(p[2][1]),
                p[0][0].max(p[1][0]).max(p[2][0]),
                p[0][1].max(p[1][1]).max(p[2][1]),
            ],
        }
    }

    fn distance(&self, x: f32, y: f32) -> f32 {
        match *self {
            Self::Capsule { a, b, ra, rb } => {
                let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
                let (px, py) = (x - a[0], y - a[1]);
                let along = dx * dx + dy * dy;
                let t = if along > 0.0 {
                    ((px * dx + py * dy) / along).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let (ex, ey) = (px - dx * t, py - dy * t);
                (ex * ex + ey * ey).sqrt() - (ra + (rb - ra) * t)
            }
            Self::Ellipse {
                centre,
                radii,
                turn,
            } => {
                let (px, py) = (x - centre[0], y - centre[1]);
                let u = (px * turn[0] + py * turn[1]) / radii[0];
                let v = (py * turn[0] - px * turn[1]) / radii[1];
                let k = (u * u + v * v).sqrt();
                (k - 1.0) * radii[0].min(radii[1])
            }
            Self::Triangle { p } => {
                let mut inside = f32::NEG_INFINITY;
                let area = (p[1][0] - p[0][0]) * (p[2][1] - p[0][1])
                    - (p[1][1] - p[0][1]) * (p[2][0] - p[0][0]);
                let turn = if area < 0.0 { -1.0 } else { 1.0 };
                for i in 0..3 {
                    let (q, r) = (p[i], p[(i + 1) % 3]);
                    let (dx, dy) = (r[0] - q[0], r[1] - q[1]);
                    let length = (dx * dx + dy * dy).sqrt().max(1e-6);
                    let side = turn * (dy * (x - q[0]) - dx * (y - q[1])) / length;
                    inside = inside.max(side);
                }
                inside
            }
        }
    }
}

/// The picture while it is painted.
#[derive(Debug)]
pub(super) struct Canvas {
    /// Pixels per row.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// Row by row from the top.
    pub(super) pixels: Vec<Colour>,
}

impl Canvas {
    /// A black picture.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![[0.0; 3]; width * height],
        }
    }

    /// Lays a colour over a pixel; outside the picture nothing happens.
    pub(super) fn blend(&mut self, x: i32, y: i32, colour: Colour, opacity: f32) {
        if x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height {
            let pixel = &mut self.pixels[y as usize * self.width + x as usize];
            *pixel = mix(*pixel, colour, opacity);
        }
    }

    /// Fills a shape with softened edges (`soft` pixels wide, 1 = antialiased); `paint` gives the
    /// colour and opacity of each pixel.
    pub(super) fn fill(
        &mut self,
        shape: &Shape,
        soft: f32,
        mut paint: impl FnMut(i32, i32) -> (Colour, f32),
    ) {
        let b = shape.bounds();
        let x0 = (b[0] - soft).floor().max(0.0) as i32;
        let y0 = (b[1] - soft).floor().max(0.0) as i32;
        let x1 = ((b[2] + soft).ceil() as i32).min(self.width as i32 - 1);
        let y1 = ((b[3] + soft).ceil() as i32).min(self.height as i32 - 1);
        for y in y0..=y1 {
            for x in x0..=x1 {
                let d = shape.distance(x as f32 + 0.5, y as f32 + 0.5);
                let cover = (0.5 - d / soft).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let (colour, opacity) = paint(x, y);
                    self.blend(x, y, colour, cover * opacity);
                }
            }
        }
    }

    /// A blade: a bent, tapered stroke from `root`, `height` pixels tall, its tip displaced sideways by
    /// `lean`; the tip is lighter than the root.
    pub(super) fn blade(
        &mut self,
        root: [f32; 2],
        height: f32,
        width: f32,
        lean: f32,
        colour: Colour,
    ) {
        let steps = height.max(1.0) as i32;
        for step in 0..=steps {
            let t = step as f32 / steps as f32;
            let x = root[0] + lean * t * t;
            let y = root[1] - height * t;
            let half = width * (1.0 - t) * 0.5 + 0.35;
            let tint = shade(colour, 0.65 + 0.5 * t);
            let (left, right) = (x - half, x + half);
            for column in left.floor() as i32..=right.floor() as i32 {
                let cover =
                    ((column as f32 + 1.0).min(right) - (column as f32).max(left)).clamp(0.0, 1.0);
                self.blend(column, y as i32, tint, cover);
            }
        }
    }
}
