// Signatures of https://developer.android.com/reference/android/widget/TextView
package android.widget;

public class TextView extends android.view.View {
    public TextView(android.content.Context context) {
        super(context);
    }

    public final void append(CharSequence text) {}
}
