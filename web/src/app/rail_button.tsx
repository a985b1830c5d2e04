import { IconButton } from "../ui/index";
import { isRailHidden, isRailOpen } from "./state";
import { words } from "./words";

/** Opens the rail, from the head of a view: every view draws it first in its head. */
export function RailButton() {
  return (
    <>
      <IconButton
        class="only-narrow"
        icon="menu"
        label={words.value.open_menu}
        onClick={() => (isRailOpen.value = true)}
      />
      {isRailHidden.value && (
        <IconButton
          class="only-wide"
          icon="sidebar"
          label={words.value.show_rail}
          onClick={() => (isRailHidden.value = false)}
        />
      )}
    </>
  );
}
