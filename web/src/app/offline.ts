// The worker that keeps the page at hand without a connection.

const WORKER = "/sw.js";

/** The part of trusted types that is used here; not in every TypeScript's library yet. */
type Policies = {
  createPolicy(name: string, rules: { createScriptURL: (url: string) => string }): {
    createScriptURL(url: string): unknown;
  };
};

/** The page's policy lets no script's address be a mere string; this one is known. */
function trusted(): string {
  const policies = (window as unknown as { trustedTypes?: Policies }).trustedTypes;
  if (!policies) return WORKER;
  const policy = policies.createPolicy("frugal-worker", { createScriptURL: () => WORKER });
  return policy.createScriptURL(WORKER) as string;
}

export function keepForLater(): void {
  // Browsers offer workers over TLS and on loopback only. Without one the page works all the same.
  if (!("serviceWorker" in navigator)) return;
  addEventListener("load", () => {
    navigator.serviceWorker.register(trusted(), { scope: "/" }).catch(() => undefined);
  });
}
