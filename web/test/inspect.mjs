// What no text of others may bring into the page.

import assert from "node:assert/strict";
import { ADDRESSES } from "./hostile.mjs";

/** Looks through what stands in the page for what no text may bring in. */
export async function inspect(page) {
  const found = await page.evaluate((addresses) => {
    const faults = [];
    const OURS = new Set(["http:", "https:", "mailto:"]);
    const NEVER = "script, style, iframe, object, embed, applet, base, meta, link, img, picture, video, audio, source, track, frame, frameset, portal, template, foreignObject, use, image, feImage, animate, set, animateTransform, maction, mglyph, annotation-xml";
    const body = document.body;
    for (const own of body.querySelectorAll(NEVER)) {
      // The page's own script stands in the body.
      if (own.matches("script[src^='/assets/']")) continue;
      faults.push(`element ${own.outerHTML.slice(0, 120)}`);
    }
    for (const own of body.querySelectorAll(".prose :is(form, input, select, textarea, dialog, [popover], [contenteditable], [id], [name])")) {
      if (!own.matches("input[type=checkbox][disabled]")) faults.push(`within a turn ${own.outerHTML.slice(0, 120)}`);
    }
    for (const own of body.querySelectorAll("*")) {
      for (const { name, value } of own.attributes) {
        if (name.startsWith("on")) faults.push(`attribute ${name}="${value.slice(0, 60)}"`);
        if (/^(?:srcset|ping|formaction|srcdoc|background|poster|data|action|xlink:href)$/.test(name)) faults.push(`attribute ${name}="${value.slice(0, 60)}"`);
      }
      const href = own.getAttribute("href");
      if (href === null) continue;
      const isRoute = /^#(?:\/(?:chat|models|runs)(?:\/|$)|main$)/.test(href) && own.closest(".prose") === null;
      if (isRoute) continue;
      if (!OURS.has(new URL(href, location.href).protocol) || !/^(?:https?:\/\/|mailto:)/.test(href)) faults.push(`link ${href.slice(0, 80)}`);
      if (own.target !== "_blank" || !/noopener/.test(own.rel) || !/noreferrer/.test(own.rel)) faults.push(`link without its marks ${href.slice(0, 80)}`);
    }
    for (const own of body.querySelectorAll(".prose *")) {
      const { position, backgroundImage } = getComputedStyle(own);
      if (position === "fixed" || position === "sticky") faults.push(`${position} ${own.outerHTML.slice(0, 80)}`);
      if (/url\((?!["']?data:)/.test(backgroundImage) && !backgroundImage.includes(location.origin)) faults.push(`background ${backgroundImage}`);
    }
    if (addresses.some((address) => location.href.includes(address))) faults.push(`went to ${location.href}`);
    return [...new Set(faults)];
  }, ADDRESSES.filter((address) => address.length > 20));
  assert.deepEqual(found, []);
}
