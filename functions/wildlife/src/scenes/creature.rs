//! Procedural animals and people: silhouettes of simple shapes, posed and coloured at random.
//!
//! A creature is drawn in its own space: it faces right, stands on y = 0 and is about 1 unit tall
//! (y grows upwards); [`place`] puts it on the canvas.

use super::canvas::{Canvas, Colour, Noise, Shape, mix, shade, vary};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A part of a creature: a shape in the creature's space and its colour.
#[derive(Debug, Clone, Copy)]
struct Part {
    shape: Shape,
    colour: Colour,
    /// An eye, which shines back at an infrared flash.
    eye: bool,
}

/// A posed creature.
#[derive(Debug, Default)]
pub(super) struct Creature {
    parts: Vec<Part>,
    /// It is in the air.
    pub(super) flying: bool,
}

/// Where and how a creature is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// Its origin on the canvas: the middle of its stand.
    pub(super) at: [f32; 2],
    /// Pixels per unit.
    pub(super) scale: f32,
    /// It faces left.
    pub(super) mirrored: bool,
    /// Tilt in radians.
    pub(super) tilt: f32,
    /// Light falling on it, 1 = full.
    pub(super) light: f32,
    /// Haze between it and the camera, 0..1, and the haze's colour.
    pub(super) haze: f32,
    pub(super) haze_colour: Colour,
    /// Width of its edges in pixels: 1 = sharp, more = out of focus or moving.
    pub(super) soft: f32,
    /// Eyes shine.
    pub(super) flash: bool,
}

impl Creature {
    fn capsule(&mut self, a: [f32; 2], b: [f32; 2], ra: f32, rb: f32, colour: Colour) {
        self.parts.push(Part {
            shape: Shape::Capsule { a, b, ra, rb },
            colour,
            eye: false,
        });
    }

    fn ellipse(&mut self, centre: [f32; 2], radii: [f32; 2], angle: f32, colour: Colour) {
        let turn = [angle.cos(), angle.sin()];
        self.parts.push(Part {
            shape: Shape::Ellipse {
                centre,
                radii,
                turn,
            },
            colour,
            eye: false,
        });
    }

    fn triangle(&mut self, p: [[f32; 2]; 3], colour: Colour) {
        self.parts.push(Part {
            shape: Shape::Triangle { p },
            colour,
            eye: false,
        });
    }

    fn eye(&mut self, centre: [f32; 2], radius: f32) {
        let shape = Shape::Ellipse {
            centre,
            radii: [radius, radius],
            turn: [1.0, 0.0],
        };
        self.parts.push(Part {
            shape,
            colour: [0.04, 0.03, 0.03],
            eye: true,
        });
    }

    /// A leg of two segments from the hip to the ground, swung by `swing`.
    fn leg(
        &mut self,
        hip: [f32; 2],
        foot_y: f32,
        swing: f32,
        thick: f32,
        colour: Colour,
        foot: Colour,
    ) {
        let knee = [hip[0] + swing * 0.35 + 0.03, (hip[1] + foot_y) * 0.52];
        let heel = [hip[0] + swing, foot_y + thick * 0.4];
        self.capsule(hip, knee, thick * 1.25, thick * 0.8, colour);
        self.capsule(knee, heel, thick * 0.8, thick * 0.55, foot);
        self.capsule(
            heel,
            [heel[0] + thick * 1.1, heel[1]],
            thick * 0.55,
            thick * 0.4,
            foot,
        );
    }
}

/// A fox: walking, sniffing at the ground, or sitting.
pub(super) fn fox(rng: &mut ChaCha8Rng) -> Creature {
    let mut c = Creature::default();
    let coats: [(Colour, Colour); 3] = [
        ([0.66, 0.34, 0.14], [0.86, 0.80, 0.72]),
        ([0.54, 0.40, 0.26], [0.74, 0.66, 0.56]),
        ([0.42, 0.39, 0.37], [0.66, 0.52, 0.40]),
    ];
    let (coat, pale) = coats[rng.random_range(0..coats.len())];
    let (coat, pale) = (vary(rng, coat, 0.18), vary(rng, pale, 0.1));
    let sock = shade(coat, 0.35);
    let stride = rng.random_range(-0.16..0.16);
    if rng.random_bool(0.25) {
        // Sitting upright.
        c.capsule([-0.30, 0.10], [-0.62, 0.12], 0.10, 0.09, coat);
        c.capsule([-0.62, 0.12], [-0.78, 0.16], 0.09, 0.04, pale);
        c.ellipse([-0.12, 0.25], [0.26, 0.25], 0.2, coat);
        c.capsule([-0.08, 0.32], [0.12, 0.68], 0.20, 0.14, coat);
        c.capsule([0.14, 0.60], [0.18, 0.06], 0.07, 0.045, sock);
        c.capsule([0.08, 0.55], [0.08, 0.06], 0.07, 0.045, sock);
        fox_head(&mut c, [0.22, 0.86], 0.0, coat, pale);
        return c;
    }
    let head_down = rng.random_range(0.0..1.0f32).powi(2);
    let back = vary(rng, shade(coat, 0.86), 0.05);
    c.leg(
        [-0.34, 0.50],
        0.0,
        -stride,
        0.07,
        shade(coat, 0.8),
        shade(sock, 0.8),
    );
    c.leg(
        [0.30, 0.50],
        0.0,
        stride,
        0.06,
        shade(coat, 0.8),
        shade(sock, 0.8),
    );
    let droop = rng.random_range(0.12..0.42);
    let bend = [-0.78, 0.56 - droop * 0.7];
    c.capsule([-0.42, 0.60], bend, 0.06, 0.13, coat);
    c.capsule(bend, [-1.02, 0.52 - droop], 0.13, 0.09, back);
    c.capsule(
        [-1.00, 0.52 - droop],
        [-1.16, 0.50 - droop],
        0.08,
        0.03,
        pale,
    );
    c.capsule([-0.36, 0.56], [0.34, 0.56], 0.17, 0.18, coat);
    c.capsule([-0.30, 0.66], [0.28, 0.67], 0.08, 0.08, back);
    c.capsule(
        [-0.20, 0.44],
        [0.32, 0.46],
        0.06,
        0.09,
        mix(coat, pale, 0.6),
    );
    c.leg([-0.38, 0.50], 0.0, stride, 0.08, coat, sock);
    c.leg([0.34, 0.50], 0.0, -stride * 0.8, 0.065, coat, sock);
    let head = [0.62 + 0.12 * head_down, 0.86 - 0.55 * head_down];
    c.capsule([0.34, 0.62], head, 0.14, 0.10, coat);
    fox_head(&mut c, head, -0.9 * head_down, coat, pale);
    c
}

fn fox_head(c: &mut Creature, at: [f32; 2], nod: f32, coat: Colour, pale: Colour) {
    let (sin, cos) = nod.sin_cos();
    let p = |x: f32, y: f32| [at[0] + x * cos - y * sin, at[1] + x * sin + y * cos];
    let dark = shade(coat, 0.3);
    c.triangle([p(-0.10, 0.05), p(-0.09, 0.27), p(0.01, 0.09)], dark);
    c.ellipse(at, [0.14, 0.115], nod, coat);
    c.triangle([p(-0.04, 0.06), p(0.02, 0.28), p(0.09, 0.08)], coat);
    c.triangle([p(-0.01, 0.08), p(0.025, 0.22), p(0.06, 0.09)], dark);
    c.capsule(
        p(0.05, -0.03),
        p(0.26, -0.08),
        0.075,
        0.025,
        mix(coat, pale, 0.35),
    );
    c.capsule(p(0.03, -0.08), p(0.22, -0.10), 0.045, 0.015, pale);
    c.ellipse(p(0.27, -0.075), [0.025, 0.022], 0.0, [0.03, 0.03, 0.03]);
    c.eye(p(0.07, 0.03), 0.021);
}

/// A rodent: a squirrel with its tail up, or a rat-like one with a long bare tail.
pub(super) fn rodent(rng: &mut ChaCha8Rng) -> Creature {
    let mut c = Creature::default();
    let coats: [Colour; 4] = [
        [0.45, 0.36, 0.27],
        [0.50, 0.30, 0.17],
        [0.42, 0.41, 0.39],
        [0.30, 0.25, 0.21],
    ];
    let coat = coats[rng.random_range(0..coats.len())];
    let coat = vary(rng, coat, 0.15);
    let belly = mix(coat, [0.85, 0.79, 0.70], 0.55);
    let upright = rng.random_bool(0.3);
    if rng.random_bool(0.6) {
        // A bushy tail, curling up behind the back.
        let mut from = [-0.42, 0.20];
        let mut heading = rng.random_range(2.2..2.9f32);
        let curl = rng.random_range(-0.42..-0.12f32);
        for i in 0..7 {
            let to = [
                from[0] + heading.cos() * 0.17,
                from[1] + heading.sin() * 0.17,
            ];
            let r = |k: f32| 0.10 + 0.07 * (k / 7.0 * std::f32::consts::PI).sin();
            let fringe = mix(coat, belly, 0.25 + 0.05 * i as f32);
            c.capsule(from, to, r(i as f32), r(i as f32 + 1.0), fringe);
            from = to;
            heading += curl;
        }
    } else {
        let sag = rng.random_range(-0.06..0.05);
        c.capsule(
            [-0.45, 0.18],
            [-0.80, 0.09 + sag],
            0.05,
            0.035,
            mix(coat, [0.7, 0.5, 0.45], 0.5),
        );
        c.capsule(
            [-0.80, 0.09 + sag],
            [-1.35, 0.05],
            0.035,
            0.012,
            [0.55, 0.42, 0.38],
        );
    }
    c.ellipse([-0.25, 0.13], [0.20, 0.10], 0.3, shade(coat, 0.8));
    let (head, neck) = if upright {
        c.ellipse([-0.14, 0.38], [0.27, 0.38], -0.25, coat);
        c.ellipse([0.02, 0.36], [0.13, 0.28], -0.2, belly);
        c.capsule([0.10, 0.55], [0.28, 0.45], 0.06, 0.035, shade(coat, 0.9));
        ([0.14, 0.84], [0.0, 0.66])
    } else {
        c.ellipse([-0.12, 0.33], [0.47, 0.29], 0.08, coat);
        c.ellipse([-0.02, 0.19], [0.36, 0.11], 0.05, belly);
        c.capsule([0.26, 0.22], [0.33, 0.04], 0.06, 0.035, shade(coat, 0.8));
        ([0.48, 0.47 + rng.random_range(-0.12..0.08)], [0.25, 0.40])
    };
    c.capsule(neck, head, 0.19, 0.15, coat);
    c.ellipse([-0.30, 0.18], [0.19, 0.16], 0.4, shade(coat, 0.93));
    c.capsule([-0.30, 0.05], [-0.10, 0.04], 0.045, 0.03, shade(coat, 0.75));
    c.ellipse(
        [head[0] - 0.06, head[1] + 0.13],
        [0.07, 0.085],
        0.2,
        shade(coat, 0.75),
    );
    c.ellipse(head, [0.18, 0.145], -0.2, coat);
    c.capsule(
        [head[0] + 0.08, head[1] - 0.04],
        [head[0] + 0.20, head[1] - 0.07],
        0.09,
        0.045,
        coat,
    );
    c.ellipse(
        [head[0] - 0.02, head[1] + 0.13],
        [0.06, 0.08],
        -0.2,
        mix(coat, [0.7, 0.5, 0.45], 0.3),
    );
    c.ellipse(
        [head[0] + 0.24, head[1] - 0.07],
        [0.02, 0.018],
        0.0,
        [0.1, 0.06, 0.06],
    );
    c.eye([head[0] + 0.08, head[1] + 0.04], 0.033);
    c
}

/// A bird: standing, pecking, or on the wing.
pub(super) fn bird(rng: &mut ChaCha8Rng) -> Creature {
    let mut c = Creature::default();
    let plumes: [(Colour, Colour); 6] = [
        ([0.07, 0.07, 0.09], [0.12, 0.12, 0.15]),
        ([0.36, 0.27, 0.19], [0.62, 0.52, 0.40]),
        ([0.88, 0.88, 0.85], [0.70, 0.70, 0.70]),
        ([0.22, 0.36, 0.60], [0.80, 0.76, 0.70]),
        ([0.55, 0.24, 0.14], [0.30, 0.20, 0.14]),
        ([0.40, 0.41, 0.43], [0.72, 0.70, 0.68]),
    ];
    let (plume, breast) = plumes[rng.random_range(0..plumes.len())];
    let (plume, breast) = (vary(rng, plume, 0.15), vary(rng, breast, 0.12));
    let beak: Colour = if rng.random_bool(0.5) {
        [0.75, 0.55, 0.12]
    } else {
        [0.13, 0.12, 0.11]
    };
    let wing = shade(plume, 0.75);
    if rng.random_bool(0.25) {
        c.flying = true;
        let beat = rng.random_range(-0.5..0.9f32);
        let tip = |side: f32| [-0.1 + 0.25 * side, 0.5 + 0.75 * beat];
        c.triangle([[-0.22, 0.52], [0.22, 0.52], tip(1.0)], shade(wing, 0.8));
        c.triangle([[-0.35, 0.50], [-0.95, 0.62], [-0.90, 0.42]], wing);
        c.ellipse([0.0, 0.5], [0.45, 0.16], 0.05, plume);
        c.ellipse([0.05, 0.44], [0.32, 0.09], 0.05, breast);
        c.ellipse([0.46, 0.58], [0.14, 0.12], 0.0, plume);
        c.triangle([[0.57, 0.62], [0.57, 0.53], [0.76, 0.56]], beak);
        c.triangle([[-0.28, 0.55], [0.26, 0.55], tip(-1.0)], wing);
        c.eye([0.51, 0.61], 0.02);
        return c;
    }
    let pecking = rng.random_bool(0.3);
    let slope: f32 = if pecking {
        -0.35
    } else {
        rng.random_range(0.15..0.65)
    };
    let (sin, cos) = slope.sin_cos();
    let p = |x: f32, y: f32| [x * cos - y * sin, 0.52 + x * sin + y * cos];
    let leg: Colour = shade(beak, 0.8);
    for x in [-0.06, 0.07] {
        c.capsule([x, 0.36], [x + 0.02, 0.02], 0.022, 0.016, leg);
        c.capsule([x + 0.02, 0.015], [x + 0.11, 0.01], 0.014, 0.01, leg);
    }
    let length = rng.random_range(0.30..0.62);
    c.capsule(p(-0.34, 0.0), p(-0.40 - length, -0.04), 0.10, 0.045, wing);
    c.ellipse(p(0.0, 0.0), [0.42, 0.25], slope, plume);
    c.ellipse(p(0.12, -0.08), [0.28, 0.16], slope, breast);
    c.ellipse(p(-0.12, 0.03), [0.33, 0.14], slope - 0.15, wing);
    let head = if pecking {
        [0.50, 0.24]
    } else {
        [p(0.36, 0.18)[0], p(0.36, 0.18)[1] + 0.06]
    };
    c.capsule(p(0.26, 0.05), head, 0.17, 0.13, plume);
    c.ellipse(head, [0.15, 0.14], 0.0, plume);
    let aim: f32 = if pecking {
        -0.9
    } else {
        rng.random_range(-0.2..0.15)
    };
    let tip = [head[0] + 0.32 * aim.cos(), head[1] + 0.32 * aim.sin()];
    let side = [-aim.sin() * 0.05, aim.cos() * 0.05];
    let base = [head[0] + 0.12 * aim.cos(), head[1] + 0.12 * aim.sin()];
    c.triangle(
        [
            [base[0] + side[0], base[1] + side[1]],
            [base[0] - side[0], base[1] - side[1]],
            tip,
        ],
        beak,
    );
    c.eye([head[0] + 0.05, head[1] + 0.04], 0.024);
    c
}

/// A human: walking or standing, dressed at random.
pub(super) fn human(rng: &mut ChaCha8Rng) -> Creature {
    let mut c = Creature::default();
    let skins: [Colour; 4] = [
        [0.86, 0.67, 0.55],
        [0.72, 0.52, 0.39],
        [0.52, 0.35, 0.24],
        [0.35, 0.23, 0.16],
    ];
    let cloths: [Colour; 8] = [
        [0.70, 0.14, 0.13],
        [0.14, 0.26, 0.52],
        [0.24, 0.32, 0.16],
        [0.85, 0.45, 0.10],
        [0.12, 0.12, 0.13],
        [0.78, 0.77, 0.73],
        [0.42, 0.36, 0.25],
        [0.36, 0.16, 0.40],
    ];
    let skin = skins[rng.random_range(0..skins.len())];
    let skin = vary(rng, skin, 0.1);
    let (shirt, trousers) = (
        rng.random_range(0..cloths.len()),
        rng.random_range(0..cloths.len()),
    );
    let (shirt, trousers) = (
        vary(rng, cloths[shirt], 0.2),
        vary(rng, shade(cloths[trousers], 0.7), 0.2),
    );
    let shoe = [0.12, 0.10, 0.09];
    let step = rng.random_range(0.0..0.15);
    let arm = rng.random_range(-0.14..0.14);
    let wide = rng.random_range(0.85..1.2);
    c.capsule([-0.01, 0.80], [-arm, 0.62], 0.035, 0.03, shade(shirt, 0.75));
    c.capsule(
        [-arm, 0.62],
        [-arm * 1.3 + 0.05, 0.47],
        0.028,
        0.022,
        shade(shirt, 0.7),
    );
    c.capsule(
        [0.0, 0.48],
        [-step * 0.6, 0.26],
        0.06 * wide,
        0.045,
        shade(trousers, 0.75),
    );
    c.capsule(
        [-step * 0.6, 0.26],
        [-step * 1.4, 0.03],
        0.045,
        0.03,
        shade(trousers, 0.75),
    );
    c.capsule(
        [-step * 1.4, 0.02],
        [-step * 1.4 + 0.07, 0.015],
        0.025,
        0.018,
        shoe,
    );
    if rng.random_bool(0.35) {
        c.ellipse(
            [-0.12, 0.70],
            [0.07, 0.14],
            0.05,
            cloths[rng.random_range(0..cloths.len())],
        );
    }
    c.capsule([0.0, 0.78], [0.0, 0.54], 0.085 * wide, 0.075 * wide, shirt);
    c.capsule(
        [0.0, 0.50],
        [step * 0.7, 0.27],
        0.065 * wide,
        0.047,
        trousers,
    );
    c.capsule([step * 0.7, 0.27], [step, 0.03], 0.047, 0.032, trousers);
    c.capsule([step, 0.02], [step + 0.08, 0.015], 0.026, 0.018, shoe);
    c.capsule([0.01, 0.82], [0.02, 0.88], 0.035, 0.032, skin);
    c.ellipse([0.025, 0.93], [0.055, 0.07], -0.05, skin);
    c.ellipse([0.0, 0.955], [0.056, 0.05], 0.2, [0.14, 0.10, 0.07]);
    if rng.random_bool(0.4) {
        let hat = cloths[rng.random_range(0..cloths.len())];
        c.ellipse([0.01, 0.985], [0.06, 0.03], 0.0, hat);
        c.capsule([0.03, 0.965], [0.11, 0.955], 0.012, 0.008, hat);
    }
    c.capsule([0.0, 0.79], [arm, 0.63], 0.042, 0.034, shade(shirt, 0.9));
    c.capsule(
        [arm, 0.63],
        [arm * 1.4 + 0.05, 0.48],
        0.032,
        0.026,
        shade(shirt, 0.88),
    );
    c.ellipse([arm * 1.4 + 0.05, 0.46], [0.025, 0.03], 0.0, skin);
    c.eye([0.062, 0.94], 0.007);
    c
}

/// Draws a creature with its shadow; gives the box it covers as left, top, right, bottom in pixels,
/// cut to the canvas, or nothing where it lies outside.
pub(super) fn place(
    canvas: &mut Canvas,
    noise: &Noise,
    c: &Creature,
    p: &Placement,
) -> Option<[f32; 4]> {
    let (sin, cos) = p.tilt.sin_cos();
    let side = if p.mirrored { -1.0 } else { 1.0 };
    let put = |q: [f32; 2]| {
        let (x, y) = (q[0] * cos - q[1] * sin, q[0] * sin + q[1] * cos);
        [p.at[0] + x * p.scale * side, p.at[1] - y * p.scale]
    };
    if !c.flying {
        let shadow = Shape::Ellipse {
            centre: [p.at[0], p.at[1]],
            radii: [p.scale * 0.5, p.scale * 0.06],
            turn: [1.0, 0.0],
        };
        canvas.fill(&shadow, (p.scale * 0.05).max(2.0), |_, _| {
            ([0.02, 0.02, 0.02], 0.4 * p.light)
        });
    }
    let mut extent: Option<[f32; 4]> = None;
    for part in &c.parts {
        let shape = match part.shape {
            Shape::Capsule { a, b, ra, rb } => Shape::Capsule {
                a: put(a),
                b: put(b),
                ra: ra * p.scale,
                rb: rb * p.scale,
            },
            Shape::Ellipse {
                centre,
                radii,
                turn,
            } => {
                // Upwards became downwards, and mirroring turns once more.
                let turn = [
                    turn[0] * cos - turn[1] * sin,
                    -(turn[1] * cos + turn[0] * sin) * side,
                ];
                let radii = radii.map(|r| (r * p.scale).max(0.4));
                Shape::Ellipse {
                    centre: put(centre),
                    radii,
                    turn,
                }
            }
            Shape::Triangle { p: corners } => Shape::Triangle {
                p: corners.map(put),
            },
        };
        let bounds = shape.bounds();
        extent = Some(extent.map_or(bounds, |e| {
            [
                e[0].min(bounds[0]),
                e[1].min(bounds[1]),
                e[2].max(bounds[2]),
                e[3].max(bounds[3]),
            ]
        }));
        let height = (bounds[3] - bounds[1]).max(1.0);
        let fur = 0.10 + 0.05 * (p.scale / 100.0).min(1.0);
        canvas.fill(&shape, p.soft, |x, y| {
            if part.eye {
                let colour = if p.flash {
                    [1.3, 1.3, 1.3]
                } else {
                    part.colour
                };
                return (colour, 1.0);
            }
            // Light falls from above; fur or cloth is not smooth.
            let low = (y as f32 - bounds[1]) / height;
            let k = p.light * (1.12 - 0.34 * low) * (1.0 + fur * noise.at(x * 3, y * 3));
            (mix(shade(part.colour, k), p.haze_colour, p.haze), 1.0)
        });
    }
    let e = extent?;
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let cut = [
        e[0].clamp(0.0, w),
        e[1].clamp(0.0, h),
        e[2].clamp(0.0, w),
        e[3].clamp(0.0, h),
    ];
    (cut[2] > cut[0] && cut[3] > cut[1]).then_some(cut)
}
