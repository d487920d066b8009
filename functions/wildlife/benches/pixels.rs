//! One 1080p JPEG to the network's input: ours against the `image` crate as its user would write it.
//! Both run in turn on the same bytes; the ratio of each pair counts, and the median is told.

use image::imageops::FilterType;
use std::hint::black_box;
use std::time::{Duration, Instant};
use stoic_wildlife::pixels::{self, Limits};
use stoic_wildlife::scenes::{Class, Generator};

const SIDE: u32 = 224;

fn ours(jpeg: &[u8]) -> Vec<u8> {
    pixels::decode(jpeg, SIDE as usize, SIDE as usize, Limits::default())
        .expect("the scene is a JPEG")
}

/// The same filter, which averages over all pixels that fall together.
fn image_crate(jpeg: &[u8]) -> Vec<u8> {
    let image = image::load_from_memory(jpeg).expect("the scene is a JPEG");
    image
        .resize_exact(SIDE, SIDE, FilterType::Triangle)
        .into_rgb8()
        .into_raw()
}

/// `image`'s fastest way, of lower quality.
fn image_thumbnail(jpeg: &[u8]) -> Vec<u8> {
    let image = image::load_from_memory(jpeg).expect("the scene is a JPEG");
    image.thumbnail_exact(SIDE, SIDE).into_rgb8().into_raw()
}

fn timed(work: impl Fn(&[u8]) -> Vec<u8>, jpeg: &[u8]) -> Duration {
    let began = Instant::now();
    black_box(work(black_box(jpeg)));
    began.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let generator = Generator::new(1);
    let scenes: Vec<Vec<u8>> = (0..20)
        .map(|i| {
            let class = Class::ALL[i as usize % Class::ALL.len()];
            generator
                .scene(i, class, String::new())
                .expect("memory is enough")
                .0
        })
        .collect();
    let (mut own, mut full, mut thumbnail) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratio, mut ratio_thumbnail) = (Vec::new(), Vec::new());
    let mut difference = 0.0;
    for round in 0..6 {
        for jpeg in &scenes {
            let a = timed(ours, jpeg).as_secs_f64() * 1e3;
            let b = timed(image_crate, jpeg).as_secs_f64() * 1e3;
            let c = timed(image_thumbnail, jpeg).as_secs_f64() * 1e3;
            if round == 0 {
                let (x, y) = (ours(jpeg), image_crate(jpeg));
                let sum: f64 = x
                    .iter()
                    .zip(&y)
                    .map(|(p, q)| f64::from(p.abs_diff(*q)))
                    .sum();
                difference += sum / x.len() as f64 / scenes.len() as f64;
                continue;
            }
            own.push(a);
            full.push(b);
            thumbnail.push(c);
            ratio.push(b / a);
            ratio_thumbnail.push(c / a);
        }
    }
    let bytes = scenes.iter().map(Vec::len).sum::<usize>() / scenes.len();
    println!(
        "1920x1080 JPEG of {bytes} bytes to {SIDE}x{SIDE} RGB, one thread, medians of {} pairs",
        own.len()
    );
    println!("  ours                    {:7.2} ms", median(own));
    println!(
        "  image, resize_exact     {:7.2} ms   ours is {:.1} times as fast",
        median(full),
        median(ratio)
    );
    println!(
        "  image, thumbnail_exact  {:7.2} ms   ours is {:.1} times as fast",
        median(thumbnail),
        median(ratio_thumbnail)
    );
    println!("  mean difference to resize_exact: {difference:.2} of 255");
}
