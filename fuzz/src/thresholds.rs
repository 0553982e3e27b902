//! Files of activation thresholds.

use crate::{folder::Folder, safetensors::check_refusal, sketch::Sketch};
use lacuna::reference;
use lacuna_io::ThresholdFile;

/// `data` is the sketch of a file of thresholds. What is accepted must tell active channels from others
/// by the documented rule, and come back when it is written.
pub fn thresholds(data: &[u8]) {
    let Some(sketch) = Sketch::read(data) else {
        return;
    };
    let folder = Folder::new();
    let file = match ThresholdFile::open(folder.put("t.safetensors", sketch.file)) {
        Ok(file) => file,
        Err(error) => return check_refusal(&error),
    };
    for thresholds in file.modules.values() {
        let values = thresholds.values();
        assert!(values.iter().all(|&t| t >= 0.0 && t.is_sign_positive()));
        assert!(
            thresholds
                .expected()
                .is_none_or(|share| (0.0..=1.0).contains(&share))
        );
        let channels = values.len().max(3);
        let Ok(of_each) = thresholds.expand(channels) else {
            continue;
        };
        let odd = [
            0.0,
            -0.0,
            1.0,
            f32::NAN,
            f32::NEG_INFINITY,
            f32::from_bits(1),
        ];
        let x: Vec<f32> = (0..channels)
            .map(|channel| {
                odd.get(channel)
                    .copied()
                    .unwrap_or(of_each[channel].next_up())
            })
            .collect();
        let mut kept = x.clone();
        let active = thresholds.apply(&x, &mut kept);
        assert!(active <= channels);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&kept), bits(&reference::threshold(&x, &of_each)));
    }
    let again = folder.path("again.safetensors");
    file.save(&again).expect("it can be written");
    let again = ThresholdFile::open(&again).expect("it was just written");
    assert_eq!(again.modules, file.modules);
}
