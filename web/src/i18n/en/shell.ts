import { isolated } from "../format";

/** Words of the frame around the views. Also the shape of the other languages. */
export const shell = {
  brand: "Frugal",
  skip: "Skip to the content",
  nav: "Areas",
  chat: "Chat",
  models: "Models",
  runs: "Runs",
  open_menu: "Open the menu",
  close: "Close",
  hide_rail: "Hide the side bar",
  show_rail: "Show the side bar",
  preferences: "Preferences",
  theme: "Appearance",
  theme_system: "As the system",
  theme_light: "Light",
  theme_dark: "Dark",
  language: "Language",
  signed_in: (name: string) => `Signed in as ${isolated(name)}`,
  sign_out: "Sign out",
  sign_out_failed: "Signing out failed: you are still signed in. Check the connection and try again.",
  sign_in: "Sign in",
  sign_in_words: "This server asks for a key. Whoever runs it can make one with “frugal keys add”.",
  key: "Key",
  key_wrong: "The server does not know this key. Check that it is whole and has not been revoked.",
  checking: "Checking…",
  loading: "Loading…",
  no_connection: "The server cannot be reached.",
  no_connection_words: "It may have been stopped, or this device is offline. What you typed is kept.",
  again: "Try again",
  view_failed: "This part of the page could not be loaded.",
  view_failed_words: "It may have been updated meanwhile; then the page has to be loaded anew. What you typed is kept.",
  broken: "This part of the page failed.",
  broken_words: (error: string) => `What you typed is kept. Try again; if it fails once more, reload the page. The fault: ${isolated(error)}`,
  reload: "Reload the page",
  server_fault: (status: number) => `The server had a fault (${status}).`,
  not_here: "There is nothing at this address.",
  to_chat: "To the chat",
};

/** What every language has. */
export type ShellWords = typeof shell;
