// Signatures of https://developer.android.com/reference/android/view/View
package android.view;

public class View {
    public View(android.content.Context context) {}
}
