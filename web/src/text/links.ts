// Where links may lead.

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** The address as a browser would go to it, or null for all that is not to be a link. */
export function safeAddress(text: string): string | null {
  if (text.length > 4096) return null;
  try {
    const url = new URL(text.trim());
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    // Relative ones too: they would lead into this page.
    return null;
  }
}
