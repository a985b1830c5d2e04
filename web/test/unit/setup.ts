// What modules of the page expect of a browser when they are loaded.

const kept = new Map<string, string>();
Object.assign(globalThis, {
  localStorage: {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  },
});
Object.assign(globalThis, {
  location: { hash: "" },
  history: { replaceState: () => undefined },
  addEventListener: () => undefined,
});
Object.defineProperty(globalThis, "navigator", { value: { languages: ["en-GB"], platform: "Linux" }, configurable: true });
