// The pictures of the page: strokes on a grid of 24, one path each.

const PATHS = {
  archive: "M4 7h16v13H4zM3 4h18v3H3zM10 11h4",
  arrow_down: "M12 5v14M6 13l6 6 6-6",
  arrow_up: "M12 19V5M6 11l6-6 6 6",
  attach: "M20 11.500l-8.200 8.200a5 5 0 0 1-7.100-7.100l8.600-8.600a3.300 3.300 0 0 1 4.700 4.700l-8.500 8.500a1.700 1.700 0 0 1-2.400-2.400l7.500-7.500",
  bolt: "M13 3L5 13.500h6L10.500 21 19 10h-6.500z",
  branch: "M6 8v8M18 8v1a4 4 0 0 1-4 4H10a4 4 0 0 0-4 3M6 8a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM18 8a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM6 21a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  chart: "M4 4v16h16M8 15l4-5 3 3 5-7",
  chat: "M4 5.500A1.500 1.500 0 0 1 5.500 4h13A1.500 1.500 0 0 1 20 5.500v9a1.500 1.500 0 0 1-1.500 1.500H11l-5 4v-4h-.500A1.500 1.500 0 0 1 4 14.500z",
  check: "M5 12.500l4.500 4.500L19 7.500",
  chevron_down: "M6 9.500l6 6 6-6",
  chevron_left: "M14.500 6l-6 6 6 6",
  chevron_right: "M9.500 6l6 6-6 6",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.500 2",
  close: "M6 6l12 12M18 6L6 18",
  compare: "M4 5h6.500v14H4zM13.500 5H20v14h-6.500z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  cube: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9",
  download: "M12 4v11M7 10.500l5 5 5-5M4 20h16",
  edit: "M4 20l1-4.500L16.500 4a2.100 2.100 0 0 1 3 3L8.500 18.500zM14.500 6l3 3",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c5 5.500 5 12.500 0 18M12 3c-5 5.500-5 12.500 0 18",
  help: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.500 9.500a2.500 2.500 0 1 1 3.600 2.200c-.700.400-1.100 1-1.100 1.800M12 16.800v.100",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 7.900v.100",
  key: "M14.500 13.500a4.500 4.500 0 1 0-4.200-3L4 17v3h3.500v-2.500H10V15l1.300-1.300c.900.500 2 .400 3.200-.200zM15.500 8.500v.100",
  leaf: "M5 19C4 10 9 4.500 20 4c.500 10-4 16-12.500 15.500M5 21c.500-4.500 3.500-8 8-10",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3",
  menu: "M4 7h16M4 12h16M4 17h16",
  monitor: "M4 5h16v11H4zM9 20h6M12 16v4",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z",
  more: "M5.500 12v.010M12 12v.010M18.500 12v.010",
  pause: "M8 5v14M16 5v14",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  play: "M7 5l12 7-12 7z",
  plus: "M12 5v14M5 12h14",
  refresh: "M20 11a8 8 0 0 0-14.300-4L4 9M4 4v5h5M4 13a8 8 0 0 0 14.300 4l1.700-2M20 20v-5h-5",
  scale: "M12 4v16M7 20h10M5 7h14M5 7l-2.500 6h5zM19 7l-2.500 6h5z",
  search: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM15.500 15.500L20 20",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 7h9M19 7h1M4 17h1M11 17h9M16 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM8 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  shield: "M12 3l7 3v6c0 4.500-3 7.500-7 9-4-1.500-7-4.500-7-9V6zM9 12l2.200 2.200L15.200 10",
  sidebar: "M4 5h16v14H4zM9.500 5v14",
  signout: "M14 4H5v16h9M10 12h10M16.500 8.500L20 12l-3.500 3.500",
  skip: "M6 5l9 7-9 7zM18 5v14",
  sliders: "M6 4v6M6 14v6M12 4v2M12 10v10M18 4v9M18 17v3M4 12h4M10 8h4M16 15h4",
  spinner: "M12 3a9 9 0 1 0 9 9",
  stop: "M7 7h10v10H7z",
  sun: "M12 16.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9zM12 2.500V4M12 20v1.500M2.500 12H4M20 12h1.500M5.300 5.300l1 1M17.700 17.700l1 1M18.700 5.300l-1 1M6.300 17.700l-1 1",
  thought: "M9 18.500h6M10 21h4M8.700 15.500a6 6 0 1 1 6.600 0V16a1 1 0 0 1-1 1H9.700a1 1 0 0 1-1-1z",
  trash: "M4 7h16M9 7V4h6v3M6.500 7l1 13h9l1-13M10 11v5M14 11v5",
  tree: "M6 4v16M6 8h6M6 16h6M12 5.500h7v5h-7zM12 13.500h7v5h-7z",
  unplug: "M4 20l4-4M7 12l5 5 1.500-1.500a3.500 3.500 0 0 0-5-5zM20 4l-4 4M17 12l-5-5-1 1M17 12l-1 1",
  upload: "M12 16V4M7 9l5-5 5 5M4 20h16",
  warning: "M12 4l9 16H3zM12 10v4.500M12 17v.100",
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
