//! Recipes: what is read is written and read again as the same recipe.

use frugal_run::recipe::Recipe;

use crate::memory;

const MEGABYTES: usize = 64;

/// Checks a recipe, with overrides behind it where zero bytes part them.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    memory::within(MEGABYTES, || {
        let mut parts = text.split('\0');
        let text = parts.next().unwrap_or_default();
        let overrides: Vec<&str> = parts.collect();
        let recipe = match Recipe::from_toml(text, &overrides) {
            Ok(recipe) => recipe,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return false;
            }
        };
        // A seed may be larger than TOML's whole numbers.
        if let Ok(written) = recipe.to_toml() {
            let again = Recipe::from_toml::<&str>(&written, &[]).unwrap();
            assert_eq!(again.to_toml().unwrap(), written);
            if overrides.is_empty() {
                assert_eq!(again, recipe);
            }
        }
        true
    })
}
