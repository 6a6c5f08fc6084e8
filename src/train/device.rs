//! Where networks learn: one place for all of them.

use burn::tensor::Device;

/// The first NVIDIA GPU in a build with the feature `cuda`, where there is one; the CPU otherwise.
pub fn device() -> Device {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = gpu() {
        return gpu;
    }
    cpu()
}

/// Where finished networks run: a GPU may multiply with fewer bits than serving does, and a bundle's golden outputs must be what serving computes.
pub fn cpu() -> Device {
    Device::flex()
}

#[cfg(feature = "cuda")]
fn gpu() -> Option<Device> {
    use std::sync::OnceLock;

    use burn::tensor::DeviceType;

    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    GPU.get_or_init(|| Device::enumerate(DeviceType::Cuda).into_vec().into_iter().next()).clone()
}
