//! The definitions held against hand-computed cases, finite differences and independent vectors.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod gradients;
#[cfg(test)]
mod quant;
#[cfg(test)]
mod tensors;
#[cfg(test)]
mod vectors;
