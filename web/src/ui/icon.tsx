// The pictures of the page: strokes on a grid of 24, one path each.

const PATHS = {
  archive: "M4 7h16v13H4zM3 4h18v3H3zM10 11h4",
  arrow_down: "M12 5v14M6 13l6 6 6-6",
  arrow_up: "M12 19V5M6 11l6-6 6 6",
  attach: "M20 11.5l-8.2 8.2a5 5 0 0 1-7.1-7.1l8.6-8.6a3.3 3.3 0 0 1 4.7 4.7l-8.5 8.5a1.7 1.7 0 0 1-2.4-2.4l7.5-7.5",
  bolt: "M13 3L5 13.5h6L10.5 21 19 10h-6.5z",
  branch: "M6 8v8M18 8v1a4 4 0 0 1-4 4H10a4 4 0 0 0-4 3M6 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM18 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM6 21a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  chart: "M4 4v16h16M8 15l4-5 3 3 5-7",
  chat: "M4 5.5A1.5 1.5 0 0 1 5.5 4h13A1.5 1.5 0 0 1 20 5.5v9a1.5 1.5 0 0 1-1.5 1.5H11l-5 4v-4h-.5A1.5 1.5 0 0 1 4 14.5z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  chevron_down: "M6 9.5l6 6 6-6",
  chevron_left: "M14.5 6l-6 6 6 6",
  chevron_right: "M9.5 6l6 6-6 6",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2",
  close: "M6 6l12 12M18 6L6 18",
  compare: "M4 5h6.5v14H4zM13.5 5H20v14h-6.5z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  cube: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  download: "M12 4v11M7 10.5l5 5 5-5M4 20h16",
  edit: "M4 20l1-4.5L16.5 4a2.1 2.1 0 0 1 3 3L8.5 18.5zM14.5 6l3 3",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c5 5.5 5 12.5 0 18M12 3c-5 5.5-5 12.5 0 18",
  help: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1 1-1.1 1.8M12 16.8v.1",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 7.9v.1",
  key: "M14.5 13.5a4.5 4.5 0 1 0-4.2-3L4 17v3h3.5v-2.5H10V15l1.3-1.3c.9.5 2 .4 3.2-.2zM15.5 8.5v.1",
  leaf: "M5 19C4 10 9 4.5 20 4c.5 10-4 16-12.5 15.5M5 21c.5-4.5 3.5-8 8-10",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  menu: "M4 7h16M4 12h16M4 17h16",
  monitor: "M4 5h16v11H4zM9 20h6M12 16v4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  more: "M5.5 12v.01M12 12v.01M18.5 12v.01",
  pause: "M8 5v14M16 5v14",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  play: "M7 5l12 7-12 7z",
  plus: "M12 5v14M5 12h14",
  refresh: "M20 11a8 8 0 0 0-14.3-4L4 9M4 4v5h5M4 13a8 8 0 0 0 14.3 4l1.7-2M20 20v-5h-5",
  scale: "M12 4v16M7 20h10M5 7h14M5 7l-2.5 6h5zM19 7l-2.5 6h5z",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 7h9M19 7h1M4 17h1M11 17h9M16 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM8 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
  shield: "M12 3l7 3v6c0 4.5-3 7.5-7 9-4-1.5-7-4.5-7-9V6zM9 12l2.2 2.2L15.2 10",
  sidebar: "M4 5h16v14H4zM9.5 5v14",
  signout: "M14 4H5v16h9M10 12h10M16.5 8.5L20 12l-3.5 3.5",
  skip: "M6 5l9 7-9 7zM18 5v14",
  sliders: "M6 4v6M6 14v6M12 4v2M12 10v10M18 4v9M18 17v3M4 12h4M10 8h4M16 15h4",
  spinner: "M12 3a9 9 0 1 0 9 9",
  stop: "M7 7h10v10H7z",
  sun: "M12 16.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM12 2.5V4M12 20v1.5M2.5 12H4M20 12h1.5M5.3 5.3l1 1M17.7 17.7l1 1M18.7 5.3l-1 1M6.3 17.7l-1 1",
  thought: "M9 18.5h6M10 21h4M8.7 15.5a6 6 0 1 1 6.6 0V16a1 1 0 0 1-1 1H9.7a1 1 0 0 1-1-1z",
  trash: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13M10 11v5M14 11v5",
  tree: "M6 4v16M6 8h6M6 16h6M12 5.5h7v5h-7zM12 13.5h7v5h-7z",
  unplug: "M4 4l16 16M3.5 9.8a12 12 0 0 1 5-2.9M13 6.05a12 12 0 0 1 7.5 3.75M7 13.5a7 7 0 0 1 4.2-2M16 12.7l1 .8M10 17a3 3 0 0 1 3.5-.3M12 20v.01",
  upload: "M12 16V4M7 9l5-5 5 5M4 20h16",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17v.1",
} as const;

/** The name of a picture. */
export type IconName = keyof typeof PATHS;

/** A picture in the colour of the text around it. It says nothing to screen readers. */
export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  const weight = name === "more" ? 2.6 : 1.7;
  return (
    <svg
      class={name === "spinner" ? "icon spin" : "icon"}
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill={name === "stop" || name === "play" ? "currentColor" : "none"}
      stroke="currentColor"
      stroke-width={weight}
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
